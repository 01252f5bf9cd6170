"""Trains several runs at the same time on one machine, each in a process of its own.

A small detector cannot keep several cores busy: two runs side by side with one thread each are
a third faster than one after the other with two. On GPUs it is one run a GPU. DVC runs its stages
one by one, so this happens before them: a run that is finished waits in its work folder to be
published.
"""

import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from opmask.training.trunk import Trunk
from study.runs.log import last_log
from study.runs.side_by_side import Task, run_side_by_side

# Ten seconds of imports for each of the runs, else.
PRELOADED = ["study.runs.jobs", "opmask.evaluation.inference"]


@dataclass(frozen=True)
class Training:
    """A run as the sweep sees it: the stage's argument, its length, and where it works."""

    key: str
    iterations: int
    work: Path
    trunk: Trunk = Trunk(Path(), ())

    def waits_for(self, other: "Training") -> bool:
        """Whether `other`, which is training, has yet to leave what the two share."""
        point = self.trunk.shared(other.trunk)
        return point > 0 and not self.trunk.checkpoint(point).exists()


def train_side_by_side(
    trainings: Sequence[Training],
    environments: Sequence[Mapping[str, str]],
    logs: Path,
    module: str = "pipeline.ahead",
) -> None:
    """Run `python -m MODULE KEY --work NAME` for all `trainings`, the longest first.

    On Ctrl-C or SIGTERM, when one fails and when this process is killed, every run saves a
    checkpoint and stops.

    Raises:
        UserError: a run failed; gives the last line it wrote and where its log is.
    """
    by_key = {one.key: one for one in sorted(trainings, key=lambda one: -one.iterations)}
    tasks = [Task(key, partial(_run, module, key, one.work.name)) for key, one in by_key.items()]
    total = sum(one.iterations for one in trainings)

    def may_start(task: Task, running: Sequence[Task]) -> bool:
        """Not while another is about to leave it what the two share."""
        return not any(by_key[task.name].waits_for(by_key[other.name]) for other in running)

    def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
        now = [by_key[task.name] for task in running]
        left = sum(by_key[task.name].iterations for task in waiting)
        bar.n = total - left - sum(one.iterations - last_log(one.work).done for one in now)
        bar.set_postfix_str(", ".join(sorted(one.key for one in now)))

    with tqdm(total=total, desc="train side by side", unit="it") as bar:
        run_side_by_side(
            tasks, environments, logs, may_start=may_start, watch=watch, preload=PRELOADED
        )


def _run(module: str, key: str, work: str) -> None:
    sys.argv[1:] = [key, "--work", work]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
