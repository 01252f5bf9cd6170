"""`dvc repro` to Table 1 at scale `coco`, with all but the weeks that it takes.

The official layout and annotations of COCO's size (`coco_size`); two processes a run. But every
image is the same small picture, the model is scale `smoke`'s, and a run has 20 iterations.
"""

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from benchmarks.coco_size import HEIGHT, IMAGES, WIDTH, write_set
from benchmarks.project import call, change, copy_project, repro
from opmask.errors import UserError
from study.spec.params import CHOICES, PAPER, SCALES, load_params

STAGES = ("code", "plan", "inputs", "data", "splits", "pretrain", "train", "evaluate", "table1")
ITERATIONS = 20  # of a run
LINKS = 30_000  # of one file: file systems allow 65,000 or so
MEASURING = {"processes": 1, "side_by_side": 2}  # hardware: one process measures a run
RESUMABLE = "repeat the command to resume"  # what an error says after which nothing is lost


def coco_repro(options: Namespace) -> pd.DataFrame:
    """Stages of `dvc repro` to Table 1 at scale coco: a small model, 20 iterations a run."""
    with tempfile.TemporaryDirectory() as folder:
        data, project = Path(folder, "coco"), Path(folder, "project")
        write_coco(data, options.boxes)
        make_project(project, data)
        return pd.DataFrame(stages(project))


def write_coco(root: Path, boxes: Path | None) -> None:
    """COCO 2017's layout below `root`: annotations as of `write_set`, images as links to one."""
    (root / "annotations").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((WIDTH, HEIGHT))
    for name in IMAGES:
        write_set(root, name, boxes)
        (root / f"{name}.json").rename(root / f"annotations/instances_{name}2017.json")
        folder = (root / name).rename(root / f"{name}2017")
        for number, path in enumerate(sorted(folder.iterdir())):
            path.unlink()
            if number % LINKS == 0:
                picture.save(path, quality=60)
                first = path
            else:
                os.link(first, path)


def make_project(root: Path, data: Path, official: bool = True, **more: Any) -> None:
    """The project with the R-50 runs of Table 1 at scale `coco`, made small, and `more` choices;
    official: the data are to be all that COCO 2017 has."""
    model = yaml.safe_load(Path(SCALES, "smoke.yaml").read_text())["config"]
    del model["SOLVER"]
    model["INPUT"] = {"MIN_SIZE_TRAIN": [160], "MIN_SIZE_TEST": 160, "MAX_SIZE_TEST": 256}
    hardware = {"gpus": 0, "processes": 2, "side_by_side": 1}
    choices: dict[str, Any] = {"scale": "coco", "data_root": str(data), "suite": "headline"}
    choices["hardware"] = hardware
    choices |= more
    scale = {
        "schedule_factor": ITERATIONS / load_params()["schedules"]["130k"]["max_iter"],
        "data": {"official": official},
        "held_out_images": 5000 if official else 5,
        "config": model,
    }
    paper = {"backbones": {"R50": {"weights": "none"}}}
    copy_project(root, {CHOICES: choices, f"{SCALES}/coco.yaml": scale, PAPER: paper})


def stages(root: Path) -> Iterator[dict[str, Any]]:
    """Wall seconds of each stage, by DVC, and how often it had to be repeated: once at most, and
    only where its error asks for that, as it does when a process was lost.

    Raises:
        UserError: one failed; gives the end of what it said.
    """
    for name in STAGES:
        if name == "evaluate":
            change(root, {CHOICES: {"hardware": MEASURING}})
        started = time.perf_counter()
        done = call(root, *repro(name))
        if repeats := int(done.returncode != 0 and RESUMABLE in done.stdout + done.stderr):
            done = call(root, *repro(name))
        if done.returncode:
            raise UserError(f"stage {name}: {(done.stdout + done.stderr)[-2000:]}")
        yield {"stage": name, "seconds": time.perf_counter() - started, "repeats": repeats}
