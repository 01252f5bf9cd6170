"""Prints every parameter, file by file: its allowed values, what it is if left out, its meaning.

`--markdown` prints it as `docs/params.md` has it. It reads no parameters, so that it also helps
where those are refused.
"""

import argparse
from collections.abc import Sequence

from pipeline import command
from study.spec.schema.table import table


@command
def run(argv: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.params", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="as a page of the documentation")
    print(table(markdown=parser.parse_args(argv).markdown))


if __name__ == "__main__":
    run()
