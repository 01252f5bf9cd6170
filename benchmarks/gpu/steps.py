"""Parts `step` and `r101`: training steps, each model built anew."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpu.setting import Row, Setting
from benchmarks.session import Job, Session


def step(setting: Setting) -> Iterator[Row]:
    """OPMask by precision and batch; detectron2's own heads and the plain transcription in fp32."""
    big, *smaller = setting.batches
    cases = [("opmask", precision, big) for precision in ("bf16", "default")]
    cases += [(variant, "default", big) for variant in ("plain", "detectron2-stock")]
    cases += [("opmask", precision, few) for few in smaller for precision in ("bf16", "default")]
    cases += [("opmask", precision, big) for precision in ("tf32", "fp32")] * setting.on_gpu
    for variant, precision, batch in cases:
        yield _row(setting, variant, "R50", precision, batch)


def r101(setting: Setting) -> Iterator[Row]:
    """OPMask on R-101; the other methods on R-50."""
    yield _row(setting, "opmask", "R101", "bf16", setting.batches[0])
    for variant in ("maskrcnn7", "maskrcnn", "fasterrcnn"):
        yield _row(setting, variant, "R50", "bf16", setting.batches[0])


def _row(setting: Setting, variant: str, backbone: str, precision: str, batch: int) -> Row:
    about: Row = {"scale": setting.scale, "variant": variant, "backbone": backbone}
    job = setting.timed_job(variant, precision, batch, backbone)
    about |= {"precision": precision, "batch": batch}
    return setting.attempt(about, partial(timed, setting, job))


def timed(setting: Setting, job: Job, change: Callable[[Session], None] | None = None) -> Row:
    """Milliseconds of a step, images a second and peak memory; `first_s`, of the first step."""
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    session, count = Session(job), 6 if setting.on_gpu else 1
    if change:
        change(session)
    started = time.perf_counter()
    done = session.train(1)
    first = time.perf_counter() - started
    seconds = setting.seconds(partial(session.train, count), 1)
    row = {"ms": 1000 * seconds / count, "images_per_s": count * done["images"] / seconds}
    return row | {"peak_memory_gib": session.train(0)["peak_memory_gib"], "first_s": first}
