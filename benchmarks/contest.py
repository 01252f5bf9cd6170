"""Runs the same action of several models in turn, each model in its own process."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import timing
from benchmarks.data import miniature_images
from benchmarks.models import VARIANTS, Job
from benchmarks.options import Options
from benchmarks.worker import Worker
from opmask.errors import UserError
from study.spec.params import load_params, require

REFERENCE = "opmask"  # whose times all ratios are to

Measure = Callable[[dict[str, Worker], Options], list[dict]]


def contest(
    options: Options, variants: Sequence[str], measure: Measure, starts: int = 1
) -> pd.DataFrame:
    """The rows of `measure(workers by variant, options)` for every backbone asked for.

    Of `starts` times, unless `options` ask for another number, the medians: a process keeps the
    memory that it got when it started, and for as long is a few per cent faster or slower.

    Raises:
        UserError: the scale's images are not drawn on the spot, nor is it COCO's.
    """
    params = load_params()
    require(options.scale, params["scales"], "--scale")
    scale = params["scales"][options.scale]
    if options.scale != "coco" and scale["data"]["kind"] != "miniature":
        raise UserError(
            f"--scale: {options.scale} needs images of yours; there are miniature, coco"
        )
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images") if options.scale != "coco" else None
        if images:
            miniature_images(scale, images)
        for backbone in options.backbones:
            for number, group in enumerate(_groups(variants, options)):
                found = [
                    _together(options, group, backbone, images, measure)
                    for _ in range(options.starts or starts)
                ]
                rows += [r for r in medians(found) if number == 0 or r["variant"] != REFERENCE]
    return pd.DataFrame(rows)


def medians(starts: Sequence[list[dict]]) -> list[dict]:
    """The rows that several starts have in common: medians of the numbers, and how many starts."""
    rows = pd.concat(map(pd.DataFrame, starts))
    numbers = list(rows.select_dtypes("number"))
    labels = [column for column in rows if column not in numbers]
    found = rows.groupby(labels, sort=False)[numbers].median().reset_index()
    return found.assign(starts=len(starts)).to_dict("records")


def _groups(variants: Sequence[str], options: Options) -> list[list[str]]:
    """Which variants take turns: all, or with COCO's size, where two models fill a machine, pairs.

    Raises:
        UserError: an unknown variant is asked for.
    """
    for name in options.variants:
        require(name, VARIANTS, "--variants")
    others = [name for name in options.variants or variants if name != REFERENCE]
    if options.scale != "coco":
        return [[REFERENCE, *others]]
    return [[REFERENCE, other] for other in others] or [[REFERENCE]]


def _together(
    options: Options, variants: Sequence[str], backbone: str, images: Path | None, measure: Measure
) -> list[dict]:
    """The rows of variants that take turns."""
    basis = job(options, backbone, images)
    shared = {"backbone": backbone, "scale": options.scale, "device": options.device}
    shared |= {"threads": options.threads, "weights": Path(basis.weights).name or "random"}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(replace(basis, variant=name), options.threads))
            for name in variants
        }
        return [shared | row for row in measure(workers, options)]


def job(options: Options, backbone: str, images: Path | None) -> Job:
    """OPMask's, as `options` ask for it, with `images` of `miniature_images` or COCO-like noise."""
    return Job(
        REFERENCE,
        backbone,
        options.scale,
        options.device,
        options.precision,
        options.batch,
        str(images or ""),
        str(_weights(options, backbone) or ""),
    )


def _weights(options: Options, backbone: str) -> Path | None:
    warm = Path("runs", options.scale, "pretrain", "weights", f"{backbone}.pth")
    return options.weights or (warm if warm.exists() else None)


def seconds_each(
    workers: dict[str, Worker], what: str, count: int, repeats: int, **arguments: int
) -> dict[str, dict[str, float]]:
    """Of `Session.<what>(**arguments)` by variant, divided by `count`: medians, and the medians of
    the rounds' ratios to REFERENCE."""

    def act(worker: Worker) -> float:
        return worker.ask(what, **arguments)["cpu_s"]

    actions = {name: partial(act, worker) for name, worker in workers.items()}
    seconds = timing.interleaved(actions, repeats, what)
    return {
        name: {key: value / count for key, value in seconds.median(name).items()}
        | seconds.ratio(name, REFERENCE)
        for name in workers
    }
