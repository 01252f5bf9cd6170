"""Trains several runs at the same time on one machine, each in a process of its own.

A small detector cannot keep several cores busy: two runs side by side with one thread each are
a third faster than one after the other with two. On GPUs it is one run a GPU. DVC runs its stages
one by one, so this happens before them: a run that is finished waits in its work folder to be
published.
"""

import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from opmask.training.trunk import Trunk
from study.runs.side_by_side import Task, run_side_by_side

# Ten seconds of imports for each of the runs, else.
PRELOADED = ["study.runs.jobs", "opmask.evaluation.inference"]


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

    def iteration(self) -> int:
        """How far the run is, by the log that its training writes."""
        try:
            last = (self.work / "metrics.json").read_text().splitlines()[-1]
            return int(json.loads(last)["iteration"]) + 1
        except (OSError, IndexError, ValueError, KeyError):  # not yet there, or half a line
            return 0


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
    by_key = {part.key: part for part in sorted(parts, key=lambda part: -part.iterations)}
    tasks = [Task(key, partial(_run, module, key, part.work.name)) for key, part in by_key.items()]

    def may_start(task: Task, running: Sequence[Task]) -> bool:
        """Not while another is about to leave it what the two share."""
        return not any(by_key[task.name].waits_for(by_key[other.name]) for other in running)

    def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
        now = [by_key[task.name] for task in running]
        left = sum(by_key[task.name].iterations for task in waiting)
        bar.n = bar.total - left - sum(part.iterations - part.iteration() for part in now)
        bar.set_postfix_str(", ".join(sorted(part.key for part in now)))

    with tqdm(total=sum(p.iterations for p in parts), desc="train side by side", unit="it") as bar:
        run_side_by_side(
            tasks, environments, logs, may_start=may_start, watch=watch, preload=PRELOADED
        )


def _run(module: str, key: str, work: str) -> None:
    sys.argv[1:] = [key, "--work", work]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
