"""Child processes: they end with their parent, and what ended one is said in words."""

import multiprocessing
import os
import signal
import threading


def end_with_parent(number: signal.Signals) -> None:
    """Send this process, a child by `multiprocessing`, `number` when its parent dies, however."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), number)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()


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
