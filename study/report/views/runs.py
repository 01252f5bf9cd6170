"""The runs: what they reached and took, and their loss curves, drawn small: every column of curves
has one pair of axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.format import number
from study.report.blocks import Table
from study.report.inputs import TrainedRun
from study.report.views.compute import costs

LOSSES = {
    "total_loss": "all losses",
    "loss_mask": "mask",
    "loss_cls": "class",
    "loss_box_reg": "box",
}
WIDTH, HEIGHT = 84, 30  # of a drawing, CSS pixels
_POINTS = 60  # of a curve: about one every two pixels


@dataclass(frozen=True)
class Curve:
    """points: of an SVG polyline; last: the loss at the end."""

    points: str
    last: str


@dataclass(frozen=True)
class RunLine:
    """One run for the table of runs; `curves` has an entry for each of LOSSES, None: no such."""

    name: str
    costs: dict[str, str]
    curves: list[Curve | None]


def run_lines(trained: Sequence[TrainedRun]) -> list[RunLine]:
    """All runs, in order."""
    short = [{n: _thin(c) for n, c in one.losses.items() if n in LOSSES} for one in trained]
    steps = max((c["step"].max() for curves in short for c in curves.values()), default=1)
    tops = {
        name: max((c[name]["value"].max() for c in short if name in c), default=1)
        for name in LOSSES
    }
    found = []
    for one, curves in zip(trained, short, strict=True):
        drawn = [
            _draw(curves[name], steps, top) if name in curves else None
            for name, top in tops.items()
        ]
        found.append(RunLine(_name(one), costs(one.provenance), drawn))
    return found


def table(trained: Sequence[TrainedRun], summary: pd.DataFrame) -> Table:
    """A line a run: its AP, of `results.summarise`, and what it took."""
    keys = ["run", "seed", "supervision", "task"]
    found = summary.set_index(keys)["AP"].sort_index()
    rows = []
    for one in trained:
        key = one.run.name, one.run.seed
        reached = {
            f"{kind} AP, {classes}": number(found.get((*key, classes, task), np.nan), 2)
            for kind, task in (("Mask", "segm"), ("Box", "bbox"))
            for classes in ("novel", "supervised")
        }
        rows.append({"Run": _name(one)} | reached | costs(one.provenance))
    return Table(pd.DataFrame(rows), "Each run, AP in percent:")


def _name(one: TrainedRun) -> str:
    return f"{one.run.name}, seed {one.run.seed}"


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    """`curve` (step, value) as at most _POINTS means of neighbours; no rows if it has none."""
    if len(curve) <= _POINTS:
        return curve
    part = np.arange(len(curve)) * _POINTS // len(curve)
    return curve.groupby(part).mean()


def _draw(curve: pd.DataFrame, steps: float, top: float) -> Curve | None:
    """`curve` on the axes 0 to `steps` and 0 to `top`; None without a point."""
    if curve.empty:
        return None
    x = WIDTH * curve["step"].to_numpy(float) / (steps or 1)
    y = HEIGHT * (1 - np.clip(curve["value"].to_numpy(float) / (top or 1), 0, 1))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Curve(points, f"{curve['value'].iloc[-1]:.2f}")
