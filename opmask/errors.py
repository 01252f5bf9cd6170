"""Errors meant for the user, and how every stage's command line reports them."""

import errno
import functools
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # trouble with the disk

EXIT_STATUS = """\
exit status:
  0    done
  1    a bug, with a traceback; opmask.predict: images were skipped, or nothing
       was written; opmask.data check: something is missing or differs
  2    refused: arguments, parameters or files; one line on stderr says which and why
  130  stopped by Ctrl-C, 143 by SIGTERM; what was under way is saved"""


class UserError(Exception):
    """Something the user can put right: one line naming the file, the key and what is allowed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is handled as Ctrl-C is: save, stop children, leave."""


class CommandLine(Protocol):
    """Runs with the arguments after the program's name, `sys.argv[1:]` if none are given."""

    def __call__(self, argv: Sequence[str] | None = None) -> None: ...


def main(function: Callable[[Sequence[str]], None]) -> CommandLine:
    """Decorate a stage's `function(argv)`: `error: …` on stderr instead of a traceback.

    The decorated function takes the arguments after the program's name (default `sys.argv[1:]`)
    and exits as EXIT_STATUS says, which `--help` prints last. A disk that is full or fails is a
    UserError, too; every other exception but Ctrl-C and SIGTERM is a bug and passes.
    """

    @functools.wraps(function)
    def run(argv: Sequence[str] | None = None) -> None:
        arguments = sys.argv[1:] if argv is None else argv
        if isinstance(sys.stdout, io.TextIOWrapper):  # lines come when due, into a pipe, too
            sys.stdout.reconfigure(line_buffering=True)
        try:
            with _sigterm_as_interrupt():
                function(arguments)
        except UserError as error:
            _fail(str(error))
        except shutil.Error as error:  # of a whole folder; says nothing but a list of its own
            source, target, reason = error.args[0][0]
            _fail(f"{target}: cannot be copied from {source} ({reason}); mend it and repeat")
        except OSError as error:
            if error.errno not in DISK:
                raise
            where = error.filename or "a file"
            _fail(f"{where}: cannot be written ({os.strerror(error.errno)}); mend it and repeat")
        except Terminated:
            print("terminated", file=sys.stderr)
            sys.exit(143)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except SystemExit as ending:
            if not ending.code and {"-h", "--help"} & set(arguments):
                print(f"\n{EXIT_STATUS}")
            raise

    return run


def _fail(message: str) -> None:
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
