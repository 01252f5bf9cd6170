"""Errors meant for the user, and how every stage's command line reports them."""

import functools
import sys
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Something the user can put right: one line naming the file, the key and what is allowed."""


def main(
    function: Callable[[Sequence[str]], None],
) -> Callable[[Sequence[str] | None], None]:
    """Decorate a stage's `function(argv)`: `error: …` on stderr instead of a traceback.

    The decorated function takes the arguments after the program's name (default `sys.argv[1:]`)
    and exits with 2 on a UserError and 130 on Ctrl-C. Every other exception is a bug and passes.
    """

    @functools.wraps(function)
    def run(argv: Sequence[str] | None = None) -> None:
        try:
            function(sys.argv[1:] if argv is None else argv)
        except UserError as error:
            print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run
