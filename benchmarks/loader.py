"""Training images a second from one loading process: decoding, augmentation, boxes and masks."""

import pandas as pd

from benchmarks.contest import contest, seconds_each
from benchmarks.options import Options
from benchmarks.worker import Worker
from opmask.errors import UserError

COMPARED = ("opmask", "fasterrcnn")  # with masks and without


def measure(options: Options) -> pd.DataFrame:
    """One row a method: seconds a batch. UserError at scale coco, whose images are not here."""
    if options.scale == "coco":
        raise UserError("loader: needs images, which scale coco does not draw; take miniature")
    return contest(options, COMPARED, _rows)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(9)
    seconds = seconds_each(workers, "load", 8, repeats, batches=8)
    rows = []
    for name, worker in workers.items():
        times = seconds[name]
        rate = worker.ask("ready")["batch"] / times["wall_s"]
        rows.append({"variant": name, **times, "images_per_s": rate, "repeats": repeats})
    return rows
