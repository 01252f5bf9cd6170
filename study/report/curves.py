"""The runs with their loss curves, drawn small: every column of curves has one pair of axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.report.facts import UNKNOWN, time_text
from study.report.inputs import Trained

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

    key: str
    seed: int
    facts: dict[str, str]
    curves: list[Curve | None]


def run_lines(trained: Sequence[Trained]) -> list[RunLine]:
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
        found.append(RunLine(one.run.key, one.run.seed, _facts(one), drawn))
    return found


def _facts(one: Trained) -> dict[str, str]:
    entry = one.provenance
    memory = entry.get("peak_memory_gib")
    return {
        "Iterations": str(entry.get("iterations", UNKNOWN)),
        "Time": time_text(entry),
        "Peak memory": f"{memory:.1f} GiB" if memory else UNKNOWN,
        "Date": str(entry.get("date", UNKNOWN)),
    }


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
