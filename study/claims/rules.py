"""What a claim's numbers say: the rules for its cells, each an `Estimate`.

Where MIN_SEEDS trainings or more were run, Student's 95 % interval over them counts as well as the
one over validation images (or classes) that the tables give, and a cell is decided only if both lie
on the same side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy import stats

from study.analysis.estimate import ALPHA, NAN, Estimate

PAPER_ALPHA = 0.01  # the level the paper names (section 4.2)
_Z = float(stats.norm.isf(ALPHA / 2))


class Rule(Protocol):
    """What decides a claim."""

    @property
    def text(self) -> str:
        """The rule in words."""

    def supports(self, cell: Estimate) -> bool:
        """Whether this cell, which was run, decides for the claim."""

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which of these cells, all run, decide against the claim, corrected for their number."""

    def strength(self, cell: Estimate) -> float:
        """How strongly a cell speaks for the claim, in standard errors; negative: against it."""


@dataclass(frozen=True)
class Side:
    """Every cell lies above (`sign` 1) or below (-1) the threshold."""

    sign: int = 1
    threshold: float = 0.0

    @property
    def text(self) -> str:
        """The rule in words."""
        claimed, other = ("above", "below") if self.sign > 0 else ("below", "above")
        threshold = f"{self.threshold:g}".replace("-", "\N{MINUS SIGN}")
        return (
            f"holds if every cell lies {claimed} {threshold} with its whole 95 % interval; does "
            f"not hold if any lies {other} it, after Holm's correction"
        )

    def supports(self, cell: Estimate) -> bool:
        """Whether all intervals of the cell lie on the claimed side."""
        claimed = "above" if self.sign > 0 else "below"
        found = [one.side_of(self.threshold) for one in cell.intervals()]
        return bool(found) and set(found) == {claimed}

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which cells lie on the other side, by Holm's correction over all of them."""
        known = [(n, z) for n, z in enumerate(map(self.strength, cells)) if not math.isnan(z)]
        result = [False] * len(cells)
        if known:
            p_values = [2 * stats.norm.sf(abs(z)) for _, z in known]
            for (n, z), small in zip(known, holm(p_values), strict=True):
                result[n] = z < 0 and small
        return result

    def strength(self, cell: Estimate) -> float:
        """The z-value whose 95 % interval ends where the cell's does; NaN without interval."""
        return self._weakest(cell)[0]

    def _weakest(self, cell: Estimate) -> tuple[float, str]:
        """(z, over what) of the interval that decides least."""
        margin = self.sign * (cell.value - self.threshold)
        found = []
        for one in cell.intervals():
            # to the end that faces the threshold
            above = (margin > 0) == (self.sign > 0)
            half = one.value - one.low if above else one.high - one.value
            size = math.inf if half <= 0 else _Z * abs(margin) / half
            found.append((math.copysign(size, margin) if margin else 0.0, one.over))
        return min(found, key=lambda one: abs(one[0]), default=(NAN, ""))

    def factor(self, cell: Estimate, cells: int = 1) -> tuple[float, str]:
        """How many times more of what would decide the cell, if its estimate stays as it is.

        The half-width of an interval falls with the square root of what it is over, so this is
        (half-width / |estimate - threshold|) squared. `cells`: of how many the correction is.
        """
        z, over = self._weakest(cell)
        needed = float(stats.norm.isf(ALPHA / 2 / cells))
        return (needed / z) ** 2 if z else math.inf, over


@dataclass(frozen=True)
class Significance:
    """The paper's own criterion: p below `alpha` on the side of `sign`, or (`significant` False)
    not. One that any small sample meets in its second form; graded beside the right test."""

    sign: int
    alpha: float = PAPER_ALPHA
    significant: bool = True

    @property
    def text(self) -> str:
        """The rule in words."""
        side = "above" if self.sign > 0 else "below"
        if self.significant:
            return f"literal: holds if p < {self.alpha:g} and the value lies {side} 0, else not"
        return (
            f"literal: holds unless a cell lies {side} 0 with p < {self.alpha:g} (Holm), which is "
            "weak: no significance is no evidence of no effect"
        )

    def supports(self, cell: Estimate) -> bool:
        """Whether the cell is as the claim says; that it is not significant, `refutes` says."""
        p = self.p(cell)
        if math.isnan(p) or not self.significant:
            return not math.isnan(p)
        return p < self.alpha and self.sign * cell.value > 0

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which cells are not as the claim says."""
        p_values = [self.p(cell) for cell in cells]
        if self.significant:
            known = zip(cells, p_values, strict=True)
            return [not math.isnan(p) and not self.supports(cell) for cell, p in known]
        small = holm([1.0 if math.isnan(p) else p for p in p_values], self.alpha)
        return [s and self.sign * c.value > 0 for c, s in zip(cells, small, strict=True)]

    def strength(self, cell: Estimate) -> float:
        """The z-value of p, with the sign of the claim."""
        z = math.copysign(stats.norm.isf(self.p(cell) / 2), self.sign * cell.value)
        return z if self.significant else -z

    @staticmethod
    def p(cell: Estimate) -> float:
        """The cell's p, or the one that its interval implies."""
        return 2 * stats.norm.sf(abs(Side().strength(cell))) if math.isnan(cell.p) else cell.p


@dataclass(frozen=True)
class Equal:
    """Arithmetic: every cell is the paper's number, up to `tolerance` (rounding)."""

    tolerance: float = 0.05

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"arithmetic: holds if every number is the one stated, up to {self.tolerance:g}"

    def supports(self, cell: Estimate) -> bool:
        """Whether the two agree."""
        return abs(cell.value - cell.paper) <= self.tolerance + 1e-9

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which do not."""
        return [not self.supports(cell) for cell in cells]

    def strength(self, cell: Estimate) -> float:
        """The distance from the number stated, negative."""
        return -abs(cell.value - cell.paper)


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects.

    As statsmodels' `multipletests`, which collects garbage on each of our hundreds of calls.
    """
    rejected = [False] * len(p_values)
    for step, n in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[n] > alpha / (len(p_values) - step):
            break
        rejected[n] = True
    return rejected
