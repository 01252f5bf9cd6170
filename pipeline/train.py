"""Stage `train`: trains the planned runs that are not trained yet, and publishes all of them.

A finished run waits in its work folder; one that was interrupted resumes there. With runs named,
these alone are trained and nothing is published: on further machines, where the first publishes.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import stage
from study.runs import slurm
from study.runs.side_by_side import places_for
from study.runs.store import trainings
from study.runs.train_all import follow, train_all
from study.runs.work import Planned, planned
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import all_runs, headline_runs

RUN = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE]-SEED, e.g. opmask-R50-voc-0"


@stage
def run(argv: Sequence[str]) -> None:
    """Train into `work/`, and fill `runs/<scale>/train/`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN)
    named = parser.parse_args(argv).runs
    params = load_params()
    paths, store = Paths.of(params), trainings(Paths.of(params))
    keys = [one.key for one in all_runs(params)]
    jobs = [planned(key, params) for key in named or keys]
    left = [job for job in jobs if not store.has(job.work.name)]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are trained", flush=True)
    if left:
        first = () if named else {one.key for one in headline_runs(params)}
        train(left, len(keys), params["hardware"], paths, first)
    if named or params["hardware"]["machine_rank"] > 0:
        return
    for job in jobs:
        job.trim()
    store.fill(paths.train, {job.key: job.work.name for job in jobs})
    if not paths.is_experiment:
        forget_trunks({job.trunk.folder for job in jobs}, paths)


def train(
    jobs: Sequence[Planned],
    plan_size: int,
    hardware: Mapping[str, Any],
    paths: Paths,
    first: Collection[str] = (),
) -> None:
    """Train `jobs`, of a plan of so many runs, as many at a time as `hardware` has places for.

    Those whose keys are in `first` come first. Where they keep all places busy, the others wait
    until their Table 1 is written (`pipeline.so_far`, whose failure is no matter of the training).
    """
    if hardware["launcher"] == "slurm":
        folders = {job.key: job.work for job in jobs}
        by_slurm = partial(slurm.run_by_slurm, folders=folders, hardware=hardware)
        follow(jobs, partial(slurm.train_planned, hardware), by_slurm, first)
        return
    # torch and detectron2: seconds of start-up, only where something is left to do here
    from study.runs.training import train_planned

    places = places_for(plan_size, hardware)
    # The only place has all that this process has, as it has it.
    environments = places if len(places) > 1 else [{}]
    early = len([job for job in jobs if job.key in first])
    then = so_far if len(places) <= early < len(jobs) else None
    train_all(jobs, environments, paths.logs, train_planned, first, then)


def so_far() -> None:
    """Table 1 of the headline runs, by a process of its own, which is no part of the stage.

    So its module has a name that is put together (docs/code-digests.md).
    """
    others = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    subprocess.run([sys.executable, "-m", f"{__package__}.so_far"], env=others, check=False)


def forget_trunks(used: Collection[Path], paths: Paths) -> None:
    """Remove what runs of earlier settings, data or code shared."""
    for path in paths.work.glob(f"{paths.scale}-trunk-*"):
        if path not in used:
            shutil.rmtree(path)


if __name__ == "__main__":
    run()
