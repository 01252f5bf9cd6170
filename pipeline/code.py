"""Stage `code`: what each stage's results rest on, one file a stage; DVC runs it every time."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from opmask.errors import main
from opmask.planning.code import record, record_file


@main
def run(argv: Sequence[str]) -> None:
    """Write `runs/code/<stage>.json` for all other stages of dvc.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.code", description=__doc__)
    parser.parse_args(argv)
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for stage in stages:
        if stage != "code":
            path, content = record_file(stage), record(f"pipeline.{stage}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


if __name__ == "__main__":
    run()
