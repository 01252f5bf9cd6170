"""Errors meant for the user, and how every stage's command line reports them."""

import functools
import sys
from collections.abc import Callable, Sequence

EXIT_STATUS = """\
exit status:
  0    done
  1    a bug, with a traceback; opmask.predict: some images were skipped;
       opmask.data check: something is missing or differs
  2    refused: arguments, parameters or files; one line on stderr says which and why
  130  stopped by Ctrl-C"""


class UserError(Exception):
    """Something the user can put right: one line naming the file, the key and what is allowed."""


def main(
    function: Callable[[Sequence[str]], None],
) -> Callable[[Sequence[str] | None], None]:
    """Decorate a stage's `function(argv)`: `error: …` on stderr instead of a traceback.

    The decorated function takes the arguments after the program's name (default `sys.argv[1:]`)
    and exits as EXIT_STATUS says, which `--help` prints last. An exception that is neither a
    UserError nor Ctrl-C is a bug and passes.
    """

    @functools.wraps(function)
    def run(argv: Sequence[str] | None = None) -> None:
        arguments = sys.argv[1:] if argv is None else argv
        try:
            function(arguments)
        except UserError as error:
            print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except SystemExit as ending:
            if not ending.code and {"-h", "--help"} & set(arguments):
                print(f"\n{EXIT_STATUS}")
            raise

    return run
