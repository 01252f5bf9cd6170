"""Errors meant for the user, and how every stage's command line reports them.

Exit codes: 0 done, 2 a UserError or a wrong argument, 130 stopped by Ctrl-C (SIGINT), 143 by
SIGTERM; what was under way is saved first. Anything else is a bug, with a traceback.
"""

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # trouble with the disk


class UserError(Exception):
    """Something the user can put right: one line naming the file, the key and what is allowed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is handled as Ctrl-C is: save, stop children, leave."""


def main(
    function: Callable[[Sequence[str]], None],
) -> Callable[[Sequence[str] | None], None]:
    """Decorate a stage's `function(argv)`: `error: …` on stderr instead of a traceback.

    The decorated function takes the arguments after the program's name (default `sys.argv[1:]`)
    and exits with the codes above. A disk that is full or fails is a UserError, too.
    """

    @functools.wraps(function)
    def run(argv: Sequence[str] | None = None) -> None:
        try:
            with _sigterm_as_interrupt():
                function(sys.argv[1:] if argv is None else argv)
        except UserError as error:
            _fail(str(error))
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
