"""Benchmarks of models: each in a process of its own, all doing the same in turn.

`opmask` is as trained by this project, `maskrcnn7` the same without the prior. `detectron2` is its
own StandardROIHeads with the same layers and our settings, `detectron2-stock` without these.
`plain` is a plain float32 transcription of the method.
"""

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import timing
from benchmarks.data import miniature_images
from benchmarks.session import Worker
from benchmarks.variants import VARIANTS, Job
from opmask.errors import UserError
from study.spec.params import load_params
from study.spec.run import require

REFERENCE = "opmask"  # whose times all ratios are to

Workers = Mapping[str, Worker]  # by variant


@dataclass(frozen=True)
class Turns:
    """What models do in turn, `Session.<action>(count)`, and how often unless asked otherwise."""

    action: str
    count: int
    repeats: int
    at_coco: int = 1  # `count` at COCO's size on a CPU

    def rows(self, workers: Workers, options: Namespace) -> list[dict[str, Any]]:
        """One a model: median seconds of one of `count`, ratios to REFERENCE, what it answered."""
        repeats = options.repeats or self.repeats
        large = options.scale == "coco" and options.device == "cpu"
        count = self.at_coco if large else self.count
        answers: dict[str, dict[str, Any]] = {}

        def act(name: str) -> float:
            answers[name] = workers[name].ask(self.action, count=count)
            return answers[name].pop("cpu_s")

        actions = {name: partial(act, name) for name in workers}
        seconds = timing.interleaved(actions, repeats, self.action)
        rows = []
        for name, worker in workers.items():
            times = {key: value / count for key, value in seconds.median(name).items()}
            images = 1 if self.action == "infer" else worker.about["batch"]
            numbers = {**times, **seconds.ratio(name, REFERENCE)}
            numbers["images_per_s"] = images / times["wall_s"]
            numbers |= answers[name] | {"repeats": repeats, "count": count}
            rows.append({"variant": name, **_about(worker), **numbers})
        return rows


def step(options: Namespace) -> pd.DataFrame:
    """A training step, loading the images included: one row a variant."""
    turns = Turns("train", count=4, repeats=4)
    return contest(options, list(VARIANTS), turns.rows, starts=5)


def inference(options: Namespace) -> pd.DataFrame:
    """Images read, detected, masks written as RLE: one row a variant, of an image."""
    compared = ("opmask", "maskrcnn7", "fasterrcnn", "opmask-fp32", "detectron2-stock")
    return contest(options, compared, Turns("infer", count=64, repeats=5, at_coco=4).rows)


def loader(options: Namespace) -> pd.DataFrame:
    """Decoding, augmentation, boxes and masks, in one process: with masks and without, a batch.

    Raises:
        UserError: at scale coco, whose images are not here.
    """
    if options.scale == "coco":
        raise UserError("loader: needs images, which scale coco does not draw; take miniature")
    return contest(options, ("opmask", "fasterrcnn"), Turns("load", count=8, repeats=9).rows)


def parts(options: Namespace) -> pd.DataFrame:
    """Where a step's time goes: one row a variant and part, milliseconds and share.

    Forward passes of backbone (with FPN), RPN, RoI sampling, box head (with its RoIAlign and
    losses), prior, mask head (likewise); the backward pass as a whole; loading and optimiser.
    """
    return contest(options, ("opmask", "maskrcnn7", "plain"), _parts)


def _parts(workers: Workers, options: Namespace) -> list[dict[str, Any]]:
    repeats = options.repeats or 15
    rounds = [{n: w.ask("parts")["parts"] for n, w in workers.items()} for _ in range(repeats + 1)]
    rows = []
    for name, worker in workers.items():
        seconds = pd.DataFrame([r[name] for r in rounds[1:]]).median()  # the first warms up
        about = {"variant": name, **_about(worker), "repeats": repeats}
        for part, value in seconds.sort_values(ascending=False).items():
            rows.append({**about, "part": part, "ms": 1000 * value, "share": value / seconds.sum()})
    return rows


def _about(worker: Worker) -> dict[str, Any]:
    return {key: worker.about[key] for key in ("precision", "batch", "parameters_m")}


def contest(
    options: Namespace,
    variants: Sequence[str],
    measure: Callable[[Workers, Namespace], list[dict[str, Any]]],
    starts: int = 1,
) -> pd.DataFrame:
    """The rows of `measure(workers, options)`.

    Of `starts` times, unless `options` ask for another number, the medians: a process keeps the
    memory that it got when it started, and for as long is a few per cent faster or slower.
    """
    for name in options.variants:
        require(name, VARIANTS, "--variants")
    others = [name for name in options.variants or variants if name != REFERENCE]
    groups = [[REFERENCE, *others]]
    if options.scale == "coco" and others:  # two such models fill a machine
        groups = [[REFERENCE, other] for other in others]
    rows: list[dict[str, Any]] = []
    with reference(options) as job:
        for number, group in enumerate(groups):
            found = [
                _together(options, job, group, measure) for _ in range(options.starts or starts)
            ]
            rows += [r for r in medians(found) if number == 0 or r["variant"] != REFERENCE]
    about = {"backbone": options.backbone, "scale": options.scale, "device": options.device}
    about |= {"weights": Path(job.weights).name or "random"}
    return pd.DataFrame(rows).assign(**about)


def _together(
    options: Namespace, job: Job, variants: Sequence[str], measure: Callable[..., list[dict]]
) -> list[dict[str, Any]]:
    """The rows of variants that take turns."""
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(replace(job, variant=name), 1)) for name in variants
        }
        return measure(workers, options)


def medians(starts: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows that several starts have in common: medians of the numbers, and how many starts."""
    rows = pd.concat(map(pd.DataFrame, starts))
    numbers = list(rows.select_dtypes("number"))
    labels = [column for column in rows if column not in numbers]
    found = rows.groupby(labels, sort=False)[numbers].median().reset_index()
    return found.assign(starts=len(starts)).to_dict("records")


@contextmanager
def reference(options: Namespace) -> Iterator[Job]:
    """REFERENCE as `options` ask for it, with its images; COCO's are noise.

    Raises:
        UserError: the scale's images are not drawn on the spot, nor is it COCO's.
    """
    params = load_params()
    require(options.scale, params["scales"], "--scale")
    scale, coco = params["scales"][options.scale], options.scale == "coco"
    if not coco and scale["data"]["kind"] != "miniature":
        raise UserError(
            f"--scale: {options.scale} needs images of yours; there are miniature, coco"
        )
    warm = Path("runs", options.scale, "pretrain", "weights", f"{options.backbone}.pth")
    weights = str(warm) if warm.exists() else ""
    asked = options.backbone, options.scale, options.device, options.precision, options.batch
    with tempfile.TemporaryDirectory() as folder:
        if not coco:
            miniature_images(scale, Path(folder))
        yield Job(REFERENCE, *asked, data="" if coco else folder, weights=weights)


# How a machine's cores are used: `dvc repro` trains a run a core, side by side, with one thread
# each. PyTorch, if nobody says otherwise, trains one with a thread a core: so a plain transcription
# of the method would. Variant, and whether side by side:
OURS = "opmask, side by side"
ARRANGEMENTS = {
    OURS: ("opmask", True),
    "opmask, one run": ("opmask", False),
    "plain, one run": ("plain", False),
    "plain, side by side": ("plain", True),
}
STEPS = 6  # between two turns


def machine(options: Namespace) -> pd.DataFrame:
    """Training images a second of the whole machine, on CPU: one row an arrangement."""
    if options.device != "cpu" or options.scale == "coco":
        raise UserError("machine: is of CPUs and of a scale whose images are drawn on the spot")
    cores, repeats = os.cpu_count() or 1, options.repeats or 9
    with reference(options) as basis, ExitStack() as stack:
        teams = {}
        for name, (variant, side_by_side) in ARRANGEMENTS.items():
            count, threads = (cores, 1) if side_by_side else (1, cores)
            job = replace(basis, variant=variant)
            teams[name] = [stack.enter_context(Worker(job, threads)) for _ in range(count)]
        actions = {name: partial(_train, team) for name, team in teams.items()}
        seconds = timing.interleaved(actions, repeats, "machine")
        rows = compare(seconds, {name: len(team) for name, team in teams.items()})
    for row, (worker, *_) in zip(rows, teams.values(), strict=True):
        row |= _about(worker)
        row["images_per_s"] = row["batch"] * row.pop("steps_per_s")
    shared = {"scale": options.scale, "backbone": options.backbone, "cores": cores}
    return pd.DataFrame(rows).assign(**shared, repeats=repeats, steps=STEPS)


def compare(seconds: timing.Seconds, processes: Mapping[str, int]) -> list[dict[str, Any]]:
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
    started = [worker.start("train", count=STEPS) for worker in team]
    return sum(future.result()["cpu_s"] for future in started)
