"""Benchmarks of models: each in a process of its own, all doing the same in turn.

`benchmarks/variants.py` says which there are; all ratios are to REFERENCE.
"""

import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import timing
from benchmarks.data import miniature_images
from benchmarks.session import PARTS, STEP, Worker
from benchmarks.variants import VARIANTS, Job
from opmask.errors import UserError
from study.spec.params import load_params, require

REFERENCE = "opmask"


@dataclass(frozen=True)
class Team:
    """Processes of one variant, which work at the same time with some threads each."""

    variant: str
    processes: int = 1
    threads: int = 1

    def workers(self, job: Job, stack: ExitStack) -> list[Worker]:
        """Its processes, which end with `stack`; all as `job` but for the variant."""
        own = replace(job, variant=self.variant)
        return [stack.enter_context(Worker(own, self.threads)) for _ in range(self.processes)]


def step(options: Namespace) -> pd.DataFrame:
    """A training step by method, loading included, against detectron2 and a plain one."""
    return contest(options, _alone(options, VARIANTS), "train", count=4, repeats=4, starts=5)


def inference(options: Namespace) -> pd.DataFrame:
    """Images a second, as an evaluation runs: read, detected, masks written as RLE."""
    compared = ("maskrcnn7", "fasterrcnn", "opmask-fp32", "detectron2-stock")
    return contest(options, _alone(options, compared), "infer", count=64, repeats=5)


def loader(options: Namespace) -> pd.DataFrame:
    """Training images a second that one process loads, with masks and without."""
    return contest(options, _alone(options, ["fasterrcnn"]), "load", count=8, repeats=9)


def machine(options: Namespace) -> pd.DataFrame:
    """Training images a second of all cores, against a plain transcription.

    `dvc repro` trains a run a core, side by side, with one thread each. PyTorch, if nobody says
    otherwise, trains one with a thread a core: so a plain transcription of the method would.
    """
    cores = os.cpu_count() or 1
    teams = {
        f"{variant}, {name}": Team(variant, *shape)
        for variant in ("opmask", "plain")
        for name, shape in {"side by side": (cores, 1), "one run": (1, cores)}.items()
    }
    return contest(options, teams, "train", count=6, repeats=9)


def parts(options: Namespace) -> pd.DataFrame:
    """Where a training step's time goes: a row a variant and part.

    Forward passes of backbone (with FPN), RPN, RoI sampling, box head (with its RoIAlign and
    losses), prior, mask head (likewise); the backward pass as a whole; loading and optimiser.
    """
    compared = _alone(options, ["maskrcnn7", "plain"])
    wide = contest(options, compared, "parts", count=1, repeats=15)
    about = [column for column in wide if column not in (*PARTS, *STEP)]
    rows = wide.melt(about, var_name="part", value_name="ms").dropna()
    rows["ms"] *= 1000
    rows["share"] = rows["ms"] / rows.groupby("variant")["ms"].transform("sum")
    return rows.sort_values(["variant", "ms"], ascending=[True, False])


def _alone(options: Namespace, compared: Iterable[str]) -> dict[str, Team]:
    """A process each: REFERENCE and, unless `options` name others, what is `compared` with it."""
    for name in options.variants:
        require(name, VARIANTS, "--variants")
    return {name: Team(name) for name in (REFERENCE, *(options.variants or compared))}


def contest(
    options: Namespace,
    teams: Mapping[str, Team],
    action: str,
    *,
    count: int,
    repeats: int,
    starts: int = 1,
) -> pd.DataFrame:
    """One row a team: what `race` says of `Session.<action>(count)`.

    Of `starts` times the medians: a process keeps the memory that it got when it started, and for
    as long is a few per cent faster or slower.
    """
    if options.scale == "coco" and action in ("infer", "load"):
        raise UserError("--scale: coco has noise in place of images; there is miniature")
    repeats, starts = options.repeats or repeats, options.starts or starts
    first, *others = teams
    groups = [[first, *others]]
    if options.scale == "coco" and others:  # two such models fill a machine
        groups = [[first, other] for other in others]
    found: list[pd.DataFrame] = []
    with reference(options) as job:
        for group in groups * starts:
            with ExitStack() as stack:
                workers = {name: teams[name].workers(job, stack) for name in group}
                found.append(race(workers, action, count, repeats))
    rows = medians(found)
    about = {key: getattr(options, key) for key in ("backbone", "scale", "device")}
    about |= {"weights": Path(job.weights).name or "random"}
    return rows.assign(**about, repeats=repeats, count=count, starts=starts)


def race(
    teams: Mapping[str, Sequence[Worker]], action: str, count: int, repeats: int
) -> pd.DataFrame:
    """Of every team, by name: median seconds of one of `count`, images a second, what it answered.

    `ratio` and `cpu_ratio` are of the seconds an image, to the first team's.
    """
    about = [{**team[0].ask("ready"), "processes": len(team)} for team in teams.values()]
    actions = {name: partial(_act, team, action, count) for name, team in teams.items()}
    rows = timing.interleaved(actions, repeats, label="variant")
    images = rows.pop("images")
    rows["images_per_s"] = images / rows["wall_s"]
    for column in ("ratio", "cpu_ratio"):
        rows[column] *= images.iloc[0] / images
    rows[["wall_s", "cpu_s"]] /= count
    return pd.DataFrame(about, index=rows.index).join(rows)


def _act(team: Sequence[Worker], action: str, count: int) -> dict[str, float]:
    """What all, at the same time, answer: sums."""
    started = [worker.start(action, count=count) for worker in team]
    return pd.DataFrame([future.result() for future in started]).sum().to_dict()


def medians(races: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row a team: medians over several races."""
    grouped = pd.concat(races).groupby(["variant", "precision"], sort=False)
    return grouped.median().reset_index()


@contextmanager
def reference(options: Namespace) -> Iterator[Job]:
    """REFERENCE as `options` ask for it, with its images; COCO's are noise.

    Raises:
        UserError: the scale's images are not drawn on the spot, nor is it COCO's.
    """
    scales = load_params()["scales"]
    require(options.scale, scales, "--scale")
    settings, coco = scales[options.scale]["data"], options.scale == "coco"
    if not coco and settings["kind"] != "miniature":
        raise UserError(
            f"--scale: {options.scale} needs images of yours; there are miniature, coco"
        )
    warm = Path("runs", options.scale, "pretrain", "weights", f"{options.backbone}.pth")
    weights = str(warm) if warm.exists() else ""
    asked = options.backbone, options.scale, options.device, options.precision, options.batch
    with tempfile.TemporaryDirectory() as folder:
        if not coco:
            miniature_images(settings, Path(folder))
        yield Job(REFERENCE, *asked, data="" if coco else folder, weights=weights)
