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
IMAGES, CLASSES, SEEDS, RUNS = "validation images", "classes", "seeds", "runs"
NOTHING = "nothing"  # of what is exact

Side = Literal["above", "below", "around", "unknown"]


@dataclass(frozen=True)
class Noise:
    """What the difference of two trainings varies by when both are trained again.

    sd: pooled standard deviation, NaN if not known. df: its degrees of freedom. origin: in words.
    """

    sd: float = NAN
    df: int = 0
    origin: str = ""

    @property
    def known(self) -> bool:
        """Whether it was measured."""
        return self.df > 0

    def scaled(self, factor: float) -> "Noise":
        """In another unit, `factor` > 0."""
        return replace(self, sd=factor * self.sd)

    def __add__(self, other: "Noise") -> "Noise":
        """Of the sum of two such differences, taken for independent; unknown if one is."""
        return Noise(math.hypot(self.sd, other.sd), min(self.df, other.df), self.origin)


@dataclass(frozen=True)
class Part:
    """An interval of an estimate: standard errors below and above it, and of which distribution.

    df: of Student's t; infinite for the normal. over: what more of narrows the interval.
    """

    below: float
    above: float
    df: float
    over: str


@dataclass(frozen=True)
class Estimate:
    """One number. `value` NaN: not run. `low` and `high` NaN: without interval.

    paper: the paper's number. p: two-sided, against 0. sd: over training seeds. seeds: 0 if not run
    or not said. over: what the interval is over; more of it narrows the interval. df: of its
    Student's t. noise: between trainings, for fewer than MIN_SEEDS seeds.

    `low` and `high` leave out the noise between trainings; `whole` has it.
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
    df: float = math.inf
    noise: Noise = Noise()

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

    def parts(self) -> list[Part]:
        """The intervals that all have to lie on one side to decide; none if one is not known.

        With MIN_SEEDS trainings or more and their spread, Student's over them and the estimate's
        own. With fewer, the own one widened by the noise between trainings: variances add, and the
        degrees of freedom are Satterthwaite's (Biometrics 1946). What is exact, or is over runs
        of several kinds itself, has no further noise.
        """
        t = _t(self.df)
        below, above = (self.value - self.low) / t, (self.high - self.value) / t
        own = [] if math.isnan(self.low) else [Part(below, above, self.df, self.over)]
        if self.over in (NOTHING, RUNS):
            return own
        if self.seeds >= MIN_SEEDS and not math.isnan(self.sd):
            error = self.sd / math.sqrt(self.seeds)
            return [*own, Part(error, error, self.seeds - 1, SEEDS)]
        if not own or not self.noise.known:
            return []
        between = self.noise.sd / math.sqrt(max(1, self.seeds))
        wide = [math.hypot(side, between) for side in (below, above)]
        shares = min(below, above) ** 4 / self.df + between**4 / self.noise.df
        df = min(wide) ** 4 / shares if shares else math.inf
        return [Part(wide[0], wide[1], df, f"{self.over} and {SEEDS}")]

    def whole(self) -> Self:
        """With the interval that has the noise between trainings too; NaN if that is not known."""
        ends = list(self.intervals().values())
        lows, highs = zip(*ends, strict=True) if ends else ((NAN,), (NAN,))
        return replace(self, low=min(lows), high=max(highs))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Low and high of each of `parts`, by what it is over."""
        return {
            part.over: (
                self.value - _t(part.df) * part.below,
                self.value + _t(part.df) * part.above,
            )
            for part in self.parts()
        }

    def p_against(self, threshold: float = 0.0) -> float:
        """Two-sided p of `threshold` with all noise, the largest of `parts`; NaN without interval.

        It is below ALPHA just where `whole` does not have the threshold inside.
        """
        margin = self.value - threshold
        found = []
        for part in self.parts():
            error = part.below if margin > 0 else part.above
            found.append(
                2 * stats.t.sf(abs(margin) / error, part.df) if error else float(not margin)
            )
        return float(max(found, default=NAN))

    def __neg__(self) -> Self:
        return replace(self, value=-self.value, low=-self.high, high=-self.low, paper=-self.paper)

    def scaled(self, factor: float) -> Self:
        """In another unit, `factor` > 0; the paper's number stays."""
        value, low, high, sd = (factor * v for v in (self.value, self.low, self.high, self.sd))
        noise = self.noise.scaled(factor)
        return replace(self, value=value, low=low, high=high, sd=sd, noise=noise)


def number(value: object) -> float:
    """A cell of a csv as a number; NaN if blank."""
    return float(pd.to_numeric(value, errors="coerce"))


def _t(df: float) -> float:
    return float(stats.t.isf(ALPHA / 2, df))


def student_half(sd: float, count: int) -> float:
    """Half-width of Student's interval of a mean of `count` values."""
    return _t(count - 1) * sd / math.sqrt(count)


def minus(name: str, a: Estimate, b: Estimate) -> Estimate:
    """a − b from the intervals of both, by the square-and-add rule (Zou and Donner 2008).

    It takes them for independent. They share images, which makes the interval too wide rather than
    too narrow.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    seeds, paper, noise = min(a.seeds, b.seeds), a.paper - b.paper, a.noise + b.noise
    return Estimate(name, value, low, high, seeds=seeds, paper=paper, over=a.over, noise=noise)


def mean_over_classes(name: str, values: pd.Series, seeds: int = 0) -> Estimate:
    """Mean with Student's interval over classes; NaN in `values` left out."""
    values = values.dropna().astype(float)
    if len(values) < 2:
        return Estimate(name)
    mean, half = float(values.mean()), student_half(float(values.std()), len(values))
    known: dict[str, Any] = {"seeds": seeds, "over": CLASSES, "df": len(values) - 1}
    return Estimate(name, mean, mean - half, mean + half, **known)


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
