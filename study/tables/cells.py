"""What Tables 1 to 3 are made of: one number of ours beside the paper's, and differences of two.

In a tidy frame a number is the columns CELL.
"""

from dataclasses import replace

import pandas as pd

from study.analysis.estimate import NAN, Estimate

CELL = ["ours", "sd", "seeds", "low", "high", "paper", "ours_minus_paper"]


def cell(values: pd.Series, published: float = NAN) -> Estimate:
    """One number of ours, from its `values` by training seed: without interval."""
    mean, sd = float(values.mean()), float(values.std())
    return Estimate(value=mean, sd=sd, seeds=len(values), paper=float(published))


def difference(
    a: pd.Series, b: pd.Series, published: float = NAN, gain: Estimate | None = None
) -> Estimate:
    """a − b, each by training seed; `gain` gives the interval.

    The spread is over equal seeds, which share initialisation and image order.
    """
    both = a.index.intersection(b.index)
    found = replace(cell(a[both] - b[both], published), value=float(a.mean() - b.mean()))
    return replace(found, low=gain.low, high=gain.high) if gain else found


def as_columns(one: Estimate) -> dict[str, float]:
    """The columns CELL: ours, sd (over seeds; NaN for one), seeds (0 = not run), low and high (95 %
    interval), paper, ours_minus_paper."""
    values = one.value, one.sd, one.seeds, one.low, one.high, one.paper, one.value - one.paper
    return dict(zip(CELL, values, strict=True))


def by_seed(per_class: pd.DataFrame, metric: str = "AP") -> pd.Series:
    """`metric` of a class subset, percent, by seed, from the per-class rows of one method."""
    return per_class.groupby("seed")[metric].mean()
