"""The losses of all runs for DVC's plots, `losses.csv`."""

from collections.abc import Iterable

import pandas as pd

from study.report.inputs import TrainedRun

POINTS = 50  # of a curve at most: what a chart of a few hundred pixels can show
COLUMNS = ["run", "method", "backbone", "supervised", "schedule", "seed", "iteration", "total_loss"]


def loss_curves(trained: Iterable[TrainedRun]) -> pd.DataFrame:
    """A row a point, of every run: COLUMNS, iterations done and the mean of the sum of all losses
    over those since the point before."""
    frames = [pd.DataFrame(columns=COLUMNS)]
    for one in trained:
        if "total_loss" not in one.losses:
            continue
        curve = one.losses["total_loss"].rename(columns={"step": "iteration", "value": COLUMNS[-1]})
        part = pd.Series(range(len(curve))) * POINTS // max(len(curve), POINTS)
        means = curve.groupby(part.to_numpy()).agg({"iteration": "last", COLUMNS[-1]: "mean"})
        about = {name: getattr(one.run, name) for name in COLUMNS[1:-2]}
        frames.append(means.round(4).assign(run=one.run.key, **about)[COLUMNS])
    return pd.concat(frames[1:] or frames, ignore_index=True)
