"""Benchmarks of models: each in a process of its own, all training in turn.

`benchmarks/session.py` says which there are; all ratios are to the first.
"""

import functools
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from benchmarks import timing
from benchmarks.session import VARIANTS, Job, Session, miniature_images, variant
from opmask.errors import UserError
from opmask.training.hardware import KEEP_MEMORY
from study.analysis.rivals import BACKBONE, RIVALS
from study.labels import BASELINE, OURS
from study.spec.params import load_params, require
from study.spec.paths import WEIGHTS, Paths
from study.spec.run import parse_run


class Worker(ProcessPoolExecutor):
    """A session in a process of its own, which ends with this context.

    Processes, because variants differ in their environment: threads, how memory is allocated.
    """

    def __init__(self, job: Job, threads: int):
        tuned = variant(job.variant).tuned and job.device == "cpu"
        own = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        super().__init__(1, env=own | (KEEP_MEMORY if tuned else {}))
        self.job = job

    def start(self, what: str, *arguments: int) -> Future:
        """Begin `Session.<what>(*arguments)`; its answer and `cpu_s`, the processor time.

        The answer raises BrokenProcessPool if the process ended.
        """
        return self.submit(_do, self.job, what, arguments)


_session = functools.cache(Session)  # of a worker's process


def _do(job: Job, what: str, arguments: Sequence[int]) -> dict[str, Any]:
    session, started = _session(job), time.process_time()
    answer = getattr(session, what)(*arguments)
    return {**answer, "cpu_s": time.process_time() - started}


class Team(NamedTuple):
    """Processes of one variant, which work at the same time with some threads each."""

    variant: str
    processes: int = 1
    threads: int = 1


def step(options: Namespace) -> pd.DataFrame:
    """A training step by method, loading included, against detectron2 and a plain one."""
    teams = {name: Team(name) for name in VARIANTS}
    return contest(options, teams, steps=4, repeats=4, starts=5)


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
    return contest(options, teams, steps=6, repeats=9)


def costs(options: Namespace) -> pd.DataFrame:
    """A training step and detection of every other system, against the baseline, once trained.

    With the weights of a run, as an untrained model finds nothing whose mask it would have to draw.

    Raises:
        UserError: the baseline is not trained at this scale, or its images are not drawn.
    """
    params = {**load_params(), "scale": options.scale}
    if params["scales"][options.scale]["data"]["kind"] != "miniature":
        raise UserError(f"--scale: {options.scale} needs images of yours; there is miniature")
    weights = {
        method: str(Paths.of(params).train / _run_key(method, params) / WEIGHTS)
        for method in (BASELINE, OURS, *(one["method"] for one in RIVALS))
    }
    there = {method: path for method, path in weights.items() if Path(path).is_file()}
    if BASELINE not in there:
        raise UserError(f"{weights[BASELINE]} is missing: train `-S suite=rivals` first")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        miniature_images(params["scales"][options.scale]["data"], Path(folder))
        job = Job("", BACKBONE, options.scale, options.device, "", options.batch, folder)
        workers = {
            name: [stack.enter_context(Worker(replace(job, variant=name, weights=path), 1))]
            for name, path in there.items()
        }
        rows = race(workers, 3, options.repeats or 9)
        tested = race(workers, 3, options.repeats or 9, "detect")
    parts = ["wall_s", "cpu_s", "ratio", "cpu_ratio"]
    return rows.join(tested[parts].add_prefix("test_")).reset_index().assign(scale=options.scale)


def _run_key(method: str, params: Mapping[str, Any]) -> str:
    return parse_run(f"{method}-{BACKBONE}-voc", 0, params).key


def contest(
    options: Namespace, teams: Mapping[str, Team], *, steps: int, repeats: int, starts: int = 1
) -> pd.DataFrame:
    """One row a team: what `race` says of so many training steps; COCO's images are noise.

    Of `starts` times the medians: a process keeps the memory that it got when it started, and for
    as long is a few per cent faster or slower.

    Raises:
        UserError: the scale's images are not drawn on the spot, nor is it COCO's.
    """
    scales, scale = load_params()["scales"], options.scale
    require(scale, scales, "--scale")
    settings, coco = scales[scale]["data"], scale == "coco"
    if settings["kind"] != "miniature" and not coco:
        raise UserError(f"--scale: {scale} needs images of yours; there are miniature, coco")
    first, *others = teams
    # two models of COCO's size fill a machine
    groups = [[first, other] for other in others] if coco else [[first, *others]]
    warm = Path("runs", scale, "pretrain", "weights", "R50.pth")
    weights = str(warm) if warm.exists() else ""
    repeats, found = options.repeats or repeats, []
    with tempfile.TemporaryDirectory() as folder:
        if not coco:
            miniature_images(settings, Path(folder))
        data = "" if coco else folder
        job = Job("", "R50", scale, options.device, "", options.batch, data, weights)
        for group in groups * starts:
            with ExitStack() as stack:
                workers = {
                    name: [
                        stack.enter_context(Worker(replace(job, variant=variant), threads))
                        for _ in range(processes)
                    ]
                    for name, (variant, processes, threads) in teams.items()
                    if name in group
                }
                found.append(race(workers, steps, repeats))
    rows = pd.concat(found).groupby(["variant", "precision"], sort=False).median().reset_index()
    about = {"scale": scale, "device": options.device, "weights": Path(weights).name}
    return rows.assign(**about, repeats=repeats, steps=steps, starts=starts)


def race(
    teams: Mapping[str, Sequence[Worker]], steps: int, repeats: int, what: str = "train"
) -> pd.DataFrame:
    """Of every team, by name: median seconds of one of its `steps`, images a second, what it said.

    `what` a session does in a step.

    `ratio` and `cpu_ratio` are of the seconds an image, to the first team's.
    """

    def act(team: Sequence[Worker]) -> dict[str, float]:
        """What all, at the same time, answer: sums."""
        started = [worker.start(what, steps) for worker in team]
        return pd.DataFrame([future.result() for future in started]).sum().to_dict()

    about = [{**t[0].start("ready").result(), "processes": len(t)} for t in teams.values()]
    actions = {name: partial(act, team) for name, team in teams.items()}
    rows = timing.interleaved(actions, repeats, label="variant")
    images = rows.pop("images")
    rows["images_per_s"] = images / rows["wall_s"]
    for column in ("ratio", "cpu_ratio"):
        rows[column] *= images.iloc[0] / images
    rows[["wall_s", "cpu_s"]] /= steps
    return pd.DataFrame(about, index=rows.index).drop(columns="cpu_s").join(rows)
