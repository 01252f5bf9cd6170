"""Where a training step's time goes, by part of the model.

Forward passes of backbone (with FPN), RPN, RoI sampling, box head (with its RoIAlign and losses),
prior, mask head (likewise); the backward pass as a whole; loading and optimiser.
"""

import pandas as pd

from benchmarks.contest import contest
from benchmarks.options import Options
from benchmarks.worker import Worker

COMPARED = ("opmask", "maskrcnn7", "plain")


def measure(options: Options) -> pd.DataFrame:
    """One row a variant, backbone and part: median milliseconds of a step, and its share."""
    return contest(options, COMPARED, _rows)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(15)
    rounds = [{name: w.ask("parts") for name, w in workers.items()} for _ in range(repeats + 1)]
    rows = []
    for name, worker in workers.items():
        seconds = pd.DataFrame([r[name] for r in rounds[1:]]).median()  # the first warms up
        seconds = seconds.drop("cpu_s")
        about = {"variant": name, "precision": worker.ask("ready")["precision"]}
        for part, value in seconds.sort_values(ascending=False).items():
            share = value / seconds.sum()
            rows.append({**about, "part": part, "ms": 1000 * value, "share": share})
    return [{**row, "repeats": repeats} for row in rows]
