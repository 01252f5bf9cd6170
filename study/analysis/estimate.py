"""A number with its uncertainty, and where it lies: what tables, figures and claims argue from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from scipy import stats

NAN = float("nan")
ALPHA = 0.05  # every interval is a 95 % interval
MIN_SEEDS = 3  # trainings from which on their spread counts as an interval of its own
IMAGES, CLASSES, SEEDS = "validation images", "classes", "seeds"

Side = Literal["above", "below", "around", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """One number. `value` NaN: not run. `low` and `high` NaN: without interval.

    paper: the paper's number. p: two-sided, against 0. sd: over training seeds. seeds: 0 if not run
    or not said. over: what the interval is over; more of it narrows the interval.
    """

    name: str = ""
    value: float = NAN
    low: float = NAN
    high: float = NAN
    sd: float = NAN
    seeds: int = 0
    paper: float = NAN
    p: float = NAN
    over: str = IMAGES

    @classmethod
    def of(
        cls, row: Mapping[Any, Any] | pd.Series, value: str, name: str = "", **known: Any
    ) -> Self:
        """From a row of a table with the usual columns, `value` being the number's; blank is NaN.
        `known` fields come first."""
        columns = [c for c in ("low", "high", "sd", "seeds", "paper", "p") if c in row]
        fields: dict[str, Any] = {column: number(row[column]) for column in columns}
        fields["seeds"] = int(np.nan_to_num(fields.get("seeds", 0)))
        return cls(name, number(row[value]), **fields | known)

    @property
    def ran(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)

    def side_of(self, threshold: float = 0.0) -> Side:
        """Where the interval lies: above or below `threshold`, around it, or unknown without one.

        An interval that ends at the threshold is around it.
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return "unknown"
        if self.low > threshold:
            return "above"
        return "below" if self.high < threshold else "around"

    def intervals(self) -> list["Estimate"]:
        """Itself, if it has an interval, and itself with Student's interval over its seeds, if
        there are MIN_SEEDS or more."""
        found = [] if math.isnan(self.low) else [self]
        if self.seeds >= MIN_SEEDS and not math.isnan(self.sd):
            half = student_half(self.sd, self.seeds)
            found.append(replace(self, low=self.value - half, high=self.value + half, over=SEEDS))
        return found

    def __neg__(self) -> Self:
        return replace(self, value=-self.value, low=-self.high, high=-self.low, paper=-self.paper)

    def scaled(self, factor: float) -> Self:
        """In another unit, `factor` > 0; the paper's number stays."""
        value, low, high, sd = (factor * v for v in (self.value, self.low, self.high, self.sd))
        return replace(self, value=value, low=low, high=high, sd=sd)


def number(value: object) -> float:
    """A cell of a csv as a number; NaN if blank."""
    return float(pd.to_numeric(value, errors="coerce"))


def student_half(sd: float, count: int) -> float:
    """Half-width of Student's interval of a mean of `count` values."""
    return float(stats.t.isf(ALPHA / 2, count - 1) * sd / math.sqrt(count))


def minus(name: str, a: Estimate, b: Estimate) -> Estimate:
    """a − b from the intervals of both, by the square-and-add rule (Zou and Donner 2008).

    It takes them for independent. They share images, which makes the interval too wide rather than
    too narrow.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    seeds, paper = min(a.seeds, b.seeds), a.paper - b.paper
    return Estimate(name, value, low, high, seeds=seeds, paper=paper, over=a.over)


def mean_over_classes(name: str, values: pd.Series, seeds: int = 0) -> Estimate:
    """Mean with Student's interval over classes; NaN in `values` left out."""
    values = values.dropna().astype(float)
    if len(values) < 2:
        return Estimate(name)
    mean, half = float(values.mean()), student_half(float(values.std()), len(values))
    return Estimate(name, mean, mean - half, mean + half, seeds=seeds, over=CLASSES)


def correlation(
    name: str, x: pd.Series, y: pd.Series, over: str, *, paper: float = NAN, seeds: int = 0
) -> Estimate:
    """Pearson's r with Fisher's interval; without value below four pairs."""
    known = pd.DataFrame({"x": x.to_numpy(), "y": y.to_numpy()}).astype(float).dropna()
    if len(known) < 4 or known.nunique().min() < 2:
        return Estimate(name, paper=paper, seeds=seeds)
    found = stats.pearsonr(known["x"], known["y"])
    low, high = found.confidence_interval()
    p, value = float(found.pvalue), float(found.statistic)
    return Estimate(name, value, low, high, p=p, over=over, paper=paper, seeds=seeds)
