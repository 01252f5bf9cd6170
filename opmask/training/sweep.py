"""Trains several runs at the same time on one machine, each in a process of its own.

A small detector cannot keep several cores busy: two runs side by side with one thread each are
a third faster than one after the other with two. On GPUs it is one run a GPU. DVC runs its stages
one by one, so this happens before them: a run that is finished waits in its work folder to be
published.
"""

import json
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path

from tqdm import tqdm

from opmask.errors import UserError
from opmask.processes import end_with_parent, killed
from opmask.training.trunk import Trunk

# Ten seconds of imports for each of the runs, else.
PRELOADED = ["opmask.training.jobs", "opmask.evaluation.inference"]


@dataclass(frozen=True)
class Part:
    """A run as the sweep sees it: the stage's argument, its length, and where it works."""

    key: str
    iterations: int
    work: Path
    trunk: Trunk = Trunk(Path(), ())

    def waits_for(self, other: "Part") -> bool:
        """Whether `other`, which is training, has yet to leave what the two share."""
        point = self.trunk.shared(other.trunk)
        return point > 0 and not self.trunk.checkpoint(point).exists()


def train_side_by_side(
    parts: Sequence[Part],
    environments: Sequence[Mapping[str, str]],
    logs: Path,
    module: str = "pipeline.ahead",
) -> None:
    """Run `python -m MODULE KEY --work NAME` for all parts, the longest first.

    On Ctrl-C or SIGTERM, when one fails and when this process is killed, every run saves a
    checkpoint and stops.

    Raises:
        UserError: a run failed; gives the last line it wrote and where its log is.
    """
    waiting = sorted(parts, key=lambda part: -part.iterations)
    free, running = list(environments), {}
    logs.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=sum(p.iterations for p in parts), desc="train side by side", unit="it")
    try:
        with _server(environments) as context:
            while waiting or running:
                while free and (part := _next(waiting, [other for other, _ in running.values()])):
                    waiting.remove(part)
                    environment = free.pop()
                    log = logs / f"{part.key}.log"
                    log.write_text("")
                    arguments = (module, part, environment, log)
                    process = context.Process(target=_run, args=arguments, name=part.key)
                    process.start()
                    running[process] = (part, environment)
                wait([process.sentinel for process in running], timeout=1)
                for process in [p for p in running if p.exitcode is not None]:
                    part, environment = running.pop(process)
                    free.append(environment)
                    if process.exitcode:
                        raise UserError(_failure(part, process.exitcode, logs))
                unfinished = [p.iterations - _iteration(p) for p, _ in running.values()]
                bar.n = bar.total - sum(p.iterations for p in waiting) - sum(unfinished)
                bar.set_postfix_str(", ".join(sorted(p.key for p, _ in running.values())))
    finally:
        bar.close()
        for process in running:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process.pid, signal.SIGINT)
        for process in running:
            process.join()


@contextmanager
def _server(environments: Sequence[Mapping[str, str]]) -> Iterator[BaseContext]:
    """What starts processes: on Linux each is a copy of one that has imported torch and detectron2.

    It starts with what all `environments` share: glibc and OpenMP read theirs only once.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(PRELOADED)
    before = dict(os.environ)
    shared = set.intersection(*(set(environment.items()) for environment in environments))
    os.environ.update(shared)
    try:
        yield context
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(module: str, part: Part, environment: Mapping[str, str], log: Path) -> None:
    """`python -m module KEY --work NAME`, in a process of its own that writes to `log`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    end_with_parent(signal.SIGINT)
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    sys.argv[1:] = [part.key, "--work", part.work.name]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _next(waiting: Sequence[Part], running: Sequence[Part]) -> Part | None:
    """The first run that need not wait for what another is about to leave it."""
    ready = (part for part in waiting if not any(part.waits_for(other) for other in running))
    return next(ready, None)


def _iteration(part: Part) -> int:
    """How far a run is, by the log that its training writes."""
    try:
        last = (part.work / "metrics.json").read_text().splitlines()[-1]
        return int(json.loads(last)["iteration"]) + 1
    except (OSError, IndexError, ValueError, KeyError):  # not yet there, or half a line
        return 0


def _failure(part: Part, exit_code: int, logs: Path) -> str:
    log = logs / f"{part.key}.log"
    lines = log.read_text().replace("\r", "\n").splitlines()
    last = lines[-1].removeprefix("error: ") if lines else "no message"
    return f"{part.key}: {killed(exit_code) or last} (log: {log})"
