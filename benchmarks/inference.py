"""Inference as an evaluation runs it: images read, detected, masks written as RLE."""

import pandas as pd

from benchmarks.contest import contest, seconds_each
from benchmarks.options import Options
from benchmarks.worker import Worker

COMPARED = ("opmask", "maskrcnn7", "fasterrcnn", "opmask-fp32", "detectron2-stock")


def measure(options: Options) -> pd.DataFrame:
    """One row a variant and backbone; seconds an image, ratios to opmask's time."""
    return contest(options, COMPARED, _rows)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(5)
    images = 4 if options.scale == "coco" else 64
    seconds = seconds_each(workers, "infer", images, repeats, images=images)
    rows = []
    for name, worker in workers.items():
        times = seconds[name]
        rows.append(
            {
                "variant": name,
                "precision": worker.ask("ready")["precision"],
                **times,
                "images_per_s": 1 / times["wall_s"],
                "detections": worker.ask("infer", images=images)["detections_per_image"],
                "repeats": repeats,
                "images": images,
            }
        )
    return rows
