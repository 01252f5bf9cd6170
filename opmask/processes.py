"""Child processes: they end with their parent, and what ended one is said in words."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(number: signal.Signals) -> None:
    """Let the system send `number` to this process when its parent dies, however it dies.

    Linux only; elsewhere a child of a parent that was killed goes on, and a lock keeps others off.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def killed(exit_code: int | None) -> str | None:
    """What ended a process by a signal, from its negative `exit_code`; None if none did."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    if name != "SIGKILL":
        return f"killed by {name}"
    hint = "fewer at a time: params.yaml: hardware.side_by_side"
    return f"killed by SIGKILL, as the system does when memory runs out ({hint})"
