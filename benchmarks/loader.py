"""Training images a second from one loading process: decoding, augmentation, boxes and masks."""

import pandas as pd

from benchmarks.contest import contest
from benchmarks.options import Options
from benchmarks.worker import Worker
from opmask.errors import UserError

COMPARED = ("opmask", "fasterrcnn")  # with masks and without


def measure(options: Options) -> pd.DataFrame:
    """One row a method. UserError at scale coco, whose images are not here."""
    if options.scale == "coco":
        raise UserError("loader: needs images, which scale coco does not draw; take miniature")
    return contest(options, COMPARED, _rows)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(9)
    rounds = [{n: w.ask("load", batches=8) for n, w in workers.items()} for _ in range(repeats + 1)]
    rows = []
    for name in workers:
        rate = pd.Series([r[name]["images"] / r[name]["seconds"] for r in rounds[1:]]).median()
        rows.append({"variant": name, "images_per_s": rate, "repeats": repeats})
    return rows
