"""Training images a second of the whole machine, on CPU, by how its cores are used.

`dvc repro` trains one run a core, side by side, with one thread each. PyTorch, if nobody says
otherwise, trains one with a thread a core: so a plain transcription of the method would.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import timing
from benchmarks.contest import job
from benchmarks.data import miniature_images
from benchmarks.options import Options
from benchmarks.worker import Worker
from opmask.errors import UserError
from study.spec.params import load_params

STEPS = 6  # between two turns
OURS = "opmask, side by side"
# variant, and whether one run a core, with one thread each
ARRANGEMENTS = {
    OURS: ("opmask", True),
    "opmask, one run": ("opmask", False),
    "plain, one run": ("plain", False),
    "plain, side by side": ("plain", True),
}


def measure(options: Options) -> pd.DataFrame:
    """One row an arrangement: images a second, and its time an image to this project's way's."""
    if options.device != "cpu" or options.scale == "coco":
        raise UserError("machine: is of CPUs and of a scale whose images are drawn on the spot")
    cores = os.cpu_count() or 1
    repeats = options.times(9)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        miniature_images(load_params()["scales"][options.scale], Path(folder, "images"))
        basis = job(options, options.backbones[0], Path(folder, "images"))
        teams = {}
        for name, (variant, side_by_side) in ARRANGEMENTS.items():
            count, threads = (cores, 1) if side_by_side else (1, cores)
            one = replace(basis, variant=variant)
            teams[name] = [stack.enter_context(Worker(one, threads)) for _ in range(count)]
        actions = {name: partial(_train, team) for name, team in teams.items()}
        seconds = timing.interleaved(actions, repeats, "machine")
        rows = compare(seconds, {name: len(team) for name, team in teams.items()})
        for row, (first, *_) in zip(rows, teams.values(), strict=True):
            about = first.ask("ready")
            row |= {"precision": about["precision"], "batch": about["batch"]}
            row["images_per_s"] = about["batch"] * row.pop("steps_per_s")
    shared = {"scale": options.scale, "backbone": basis.backbone, "cores": cores}
    return pd.DataFrame(rows).assign(**shared, repeats=repeats, steps=STEPS)


def compare(seconds: timing.Seconds, processes: Mapping[str, int]) -> list[dict]:
    """Rows from the seconds that each arrangement's processes, at the same time, take for STEPS.

    `ratio` is how many times as fast OURS gets through the same number of steps.
    """
    return [
        {
            "arrangement": name,
            "processes": count,
            "steps_per_s": STEPS * count / seconds.median(name)["wall_s"],
            "ratio": seconds.ratio(name, OURS)["ratio"] * processes[OURS] / count,
        }
        for name, count in processes.items()
    ]


def _train(team: Sequence[Worker]) -> float:
    """Processor seconds of all, which train at the same time."""
    with ThreadPoolExecutor(len(team)) as pool:
        return sum(pool.map(lambda worker: worker.ask("train", steps=STEPS)["cpu_s"], team))
