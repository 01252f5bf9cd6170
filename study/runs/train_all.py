"""Trains several runs, each in a process or a job of Slurm of its own, and shows how far they are.

On one machine they train side by side where that pays. A small detector cannot keep several cores
busy: two runs with one thread each are a third faster than one after the other with two. On GPUs it
is one run a GPU.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from study.format import duration
from study.runs.log import last_log
from study.runs.side_by_side import Task, run_side_by_side
from study.runs.work import Planned
from study.spec.paths import PUBLISHED

PRELOADED = ["study.runs.training"]  # ten seconds of imports for each of the runs, else


def train_all(
    jobs: Sequence[Planned],
    environments: Sequence[Mapping[str, str]],
    logs: Path,
    train: Callable[[str, str], None],
    first: Collection[str] = (),
    then: Callable[[], None] | None = None,
) -> None:
    """Call `train(key, name of the work folder)` for all `jobs` on this machine: those whose keys
    are in `first`, then the longest.

    train: can be pickled. then: called between the two.

    On Ctrl-C or SIGTERM, when one fails and when this process is killed, every run saves a
    checkpoint and stops.

    Raises:
        UserError: a run failed; gives the last line it wrote and where its log is.
    """
    run = partial(run_side_by_side, environments=environments, logs=logs, preload=PRELOADED)
    follow(jobs, train, run, first, then)


def follow(
    jobs: Sequence[Planned],
    train: Callable[[str, str], None],
    run: Callable[..., None],
    first: Collection[str] = (),
    then: Callable[[], None] | None = None,
) -> None:
    """`train_all` where `run` calls the tasks, and show how far they are."""
    order = sorted(jobs, key=lambda job: (job.key not in first, -job.iterations))
    by_key = {job.key: job for job in order}
    tasks = [Task(key, partial(train, key, job.work.name)) for key, job in by_key.items()]
    total, started, done = sum(job.iterations for job in jobs), time.monotonic(), set[str]()

    awaited = set(first) & by_key.keys() if then else set()

    def may_start(task: Task, running: Sequence[Task]) -> bool:
        """Not before those that others wait for, or while another is about to leave it what the
        two share."""
        if awaited and task.name not in awaited:
            return False
        return not any(by_key[task.name].waits_for(by_key[other.name]) for other in running)

    def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
        now = [by_key[task.name] for task in running]
        left = [by_key[task.name] for task in waiting]
        over = by_key.keys() - {job.key for job in (*now, *left)}
        for key in sorted(over - done):
            done.add(key)
            if (by_key[key].work / PUBLISHED).is_dir():  # not on further machines
                by_key[key].trim()  # checkpoints of many runs would fill a disk
            after = duration(time.monotonic() - started)
            tqdm.write(f"{key}: trained, {by_key[key].iterations} iterations; {len(done)} of "
                       f"{len(jobs)} runs after {after}")  # fmt: skip
        if then and awaited and awaited <= done:
            awaited.clear()
            then()
        to_do = sum(job.iterations for job in left)
        to_do += sum(job.iterations - last_log(job.work).done for job in now)
        bar.n = total - to_do
        bar.set_postfix_str(", ".join(sorted(job.key for job in now)))

    with tqdm(total=total, desc="train", unit="it") as bar:
        run(tasks, may_start=may_start, watch=watch)
