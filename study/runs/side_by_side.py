"""Tasks at the same time on one machine, each in a process with its share of cores or GPUs.

A child that is killed is noticed by its exit code alone, and nothing is shared with it that it
could take along: no queue, no lock. (Python's own pools hang when a worker dies at a bad moment.)
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from opmask.errors import UserError, main
from opmask.training.hardware import places_here
from study.runs.live import shown_live

Context = ForkServerContext | SpawnContext


def places_for(planned: int, hardware: Mapping[str, Any]) -> list[dict[str, str]]:
    """`places_here`; with `side_by_side: auto` no more than there are `planned` runs, each of which
    then has more cores. How many of them are left must not count: a run's bits depend on threads.
    """
    found = places_here(hardware)
    if hardware["side_by_side"] == "auto" and len(found) > planned:
        found = places_here({**hardware, "side_by_side": max(1, planned)})
    return found


@dataclass(frozen=True)
class Task:
    """A call that can be pickled; `name` is that of its log and of its errors."""

    name: str
    call: Callable[[], None]


@dataclass(frozen=True)
class _Running:
    task: Task
    environment: Mapping[str, str]
    process: BaseProcess
    begun: Connection  # says something once the process hears SIGINT


def run_side_by_side(
    tasks: Sequence[Task],
    environments: Sequence[Mapping[str, str]],
    logs: Path,
    *,
    may_start: Callable[[Task, Sequence[Task]], bool] = lambda _task, _running: True,
    watch: Callable[[Sequence[Task], Sequence[Task]], None] = lambda _waiting, _running: None,
    preload: Sequence[str] = (),
) -> None:
    """Call all `tasks`, in their order, one in each of `environments` at a time.

    Args:
        tasks: each writes to `logs/<name>.log`.
        environments: environment variables of a place; two tasks never share a place.
        logs: a folder, made if needed; where it lies, work folders of trainings do, too, which
            `study.runs.live` shows.
        may_start: whether a task may start beside those running; with none running it must.
        watch: called every second and whenever a task ends, with those waiting and those running.
        preload: modules that the children find imported (on Linux).

    Raises:
        UserError: a task failed; gives the last line it wrote and where its log is. The others are
            interrupted as by Ctrl-C, which also happens when this process is interrupted or killed.
    """
    waiting, free = list(tasks), list(environments)
    running: list[_Running] = []
    logs.mkdir(parents=True, exist_ok=True)
    try:
        with _server(environments, preload) as context, shown_live(logs.parent) as show:
            while waiting or running:
                now = [one.task for one in running]
                ready = next((task for task in waiting if may_start(task, now)), None)
                if free and ready:
                    waiting.remove(ready)
                    running.append(_start(ready, free.pop(), logs, context))
                    continue
                wait([one.process.sentinel for one in running], timeout=1)
                for one in [one for one in running if one.process.exitcode is not None]:
                    running.remove(one)
                    free.append(one.environment)
                    if one.process.exitcode:
                        raise UserError(_failure(one.task, one.process.exitcode, logs))
                watch(waiting, [one.task for one in running])
                show([one.task.name for one in running])
    finally:
        for one in running:
            _interrupt(one)
        for one in running:
            one.process.join()


def _start(task: Task, environment: Mapping[str, str], logs: Path, context: Context) -> _Running:
    log = logs / f"{task.name}.log"
    log.write_text("")
    begun, ours = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(task, environment, log, ours), name=task.name)
    process.start()
    ours.close()
    return _Running(task, environment, process, begun)


def _interrupt(one: _Running) -> None:
    """SIGINT, which lets it save; where that is not yet heard, nothing is to be saved."""
    pid, number = one.process.pid, signal.SIGINT if one.begun.poll() else signal.SIGKILL
    with suppress(ProcessLookupError):  # it has just ended
        if pid is not None:
            os.kill(pid, number)


def _run(task: Task, environment: Mapping[str, str], log: Path, begun: Connection) -> None:
    """What a child does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    begun.send(True)
    end_with_parent(signal.SIGINT)
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    main(lambda _: task.call())([])


@contextmanager
def _server(environments: Sequence[Mapping[str, str]], preload: Sequence[str]) -> Iterator[Context]:
    """What starts processes: on Linux each is a copy of one that has imported `preload`.

    It starts with what all `environments` share: glibc and OpenMP read theirs only once.
    """
    context = ForkServerContext() if sys.platform == "linux" else SpawnContext()
    context.set_forkserver_preload(list(preload))
    before = dict(os.environ)
    os.environ.update(set.intersection(*(set(place.items()) for place in environments)))
    try:
        yield context
    finally:
        os.environ.clear()
        os.environ.update(before)


def _failure(task: Task, exit_code: int, logs: Path) -> str:
    log = logs / f"{task.name}.log"
    lines = log.read_text().replace("\r", "\n").splitlines()
    last = lines[-1].removeprefix("error: ") if lines else "no message"
    return f"{task.name}: {killed(exit_code) or last} (log: {log})"


def end_with_parent(number: signal.Signals) -> None:
    """Send this process, a child by `multiprocessing`, `number` when its parent dies, however."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os.kill(os.getpid(), number)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


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
