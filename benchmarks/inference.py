"""Inference as an evaluation runs it: images read, detected, masks written as RLE."""

import pandas as pd

from benchmarks import timing
from benchmarks.contest import REFERENCE, contest, seconds_each
from benchmarks.options import Options
from benchmarks.worker import Worker

COMPARED = ("opmask", "maskrcnn7", "fasterrcnn", "opmask-fp32", "detectron2-stock")


def measure(options: Options) -> pd.DataFrame:
    """One row a variant and backbone; `ratio` is to opmask's time."""
    return contest(options, COMPARED, _rows)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(5)
    images = 4 if options.scale == "coco" else 64
    seconds = seconds_each(workers, "infer", images, repeats, images=images)
    return [
        {
            "variant": name,
            "precision": worker.ask("ready")["precision"],
            "images_per_s": 1 / seconds[name].median(),
            "ratio": timing.ratio(seconds, name, REFERENCE),
            **worker.ask("infer", images=images),
            "repeats": repeats,
            "images": images,
        }
        for name, worker in workers.items()
    ]
