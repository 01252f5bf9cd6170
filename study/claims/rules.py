"""How a claim is graded, from its cells, each an `Estimate`, and the rule for them.

A claim of several cells ("in all cases") holds if every single cell does: an intersection-union
test, which needs no correction. It does not hold if any cell is refuted, which does need one:
Holm's over the cells that were run.

Where MIN_SEEDS trainings or more were run, Student's 95 % interval over them counts as well as the
one over validation images (or classes) that the tables give, and a cell is decided only if both lie
on the same side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from study.analysis.estimate import ALPHA, MIN_SEEDS, NAN, Estimate
from study.claims import load
from study.format import MINUS
from study.labels import NOT_RUN

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED = "not decided at this scale"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_RUN)
MANY = 1000  # times more data: beyond, no number is given
PAPER_ALPHA = 0.01  # the level the paper names (section 4.2)
SIDES = {"above": 1, "below": -1}
_TEXTS = load("rules")
_Z = float(stats.norm.isf(ALPHA / 2))


class Rule:
    """What decides a claim, from those of its cells that were run."""

    sign = 1
    kind: str  # in rules.yaml

    @property
    def text(self) -> str:
        """The rule in words."""
        claimed, other = list(SIDES)[:: self.sign]
        text = _TEXTS[self.kind].format(claimed=claimed, other=other, **vars(self))
        return text.replace("-", MINUS)

    def supports(self, cell: Estimate) -> bool:
        """Whether this cell decides for the claim."""
        raise NotImplementedError

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which of these cells decide against the claim, corrected for their number."""
        return [not math.isnan(self.strength(c)) and not self.supports(c) for c in cells]

    def strength(self, cell: Estimate) -> float:
        """How strongly a cell speaks for the claim, in standard errors; negative: against it; NaN
        if it does not say."""
        raise NotImplementedError


@dataclass(frozen=True)
class Side(Rule):
    """Every cell lies above (`sign` 1) or below (-1) the threshold."""

    sign: int = 1
    threshold: float = 0.0
    kind = "side"

    def supports(self, cell: Estimate) -> bool:
        """Whether all intervals of the cell lie on the claimed side."""
        return {SIDES.get(i.side_of(self.threshold)) for i in cell.intervals()} == {self.sign}

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which cells lie on the other side, by Holm's correction over all with an interval."""
        z = np.array([self.strength(cell) for cell in cells])
        return ((z < 0) & holm(2 * stats.norm.sf(np.abs(z)))).tolist()

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
class Significance(Rule):
    """The paper's own criterion: p below `alpha` on the side of `sign`, or (`significant` False)
    not. One that any small sample meets in its second form; graded beside the right test."""

    sign: int
    alpha: float = PAPER_ALPHA
    significant: bool = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        """In rules.yaml."""
        return "significant" if self.significant else "not significant"

    def supports(self, cell: Estimate) -> bool:
        """Whether the cell is as the claim says; that it is not significant, `refutes` says."""
        p = self.p(cell)
        if not self.significant:
            return not math.isnan(p)
        return p < self.alpha and self.sign * cell.value > 0

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which cells are not as the claim says."""
        if self.significant:
            return super().refutes(cells)
        claimed = np.array([self.sign * cell.value > 0 for cell in cells], dtype=bool)
        p_values = np.nan_to_num([self.p(cell) for cell in cells], nan=1.0)
        return (claimed & holm(p_values, self.alpha)).tolist()

    def strength(self, cell: Estimate) -> float:
        """The z-value of p, with the sign of the claim."""
        z = math.copysign(stats.norm.isf(self.p(cell) / 2), self.sign * cell.value)
        return z if self.significant else -z

    @staticmethod
    def p(cell: Estimate) -> float:
        """The cell's p, or the one that its interval implies."""
        return 2 * stats.norm.sf(abs(Side().strength(cell))) if math.isnan(cell.p) else cell.p


@dataclass(frozen=True)
class Equal(Rule):
    """Arithmetic: every cell is the paper's number, up to `tolerance` (rounding)."""

    tolerance: float = 0.05
    kind = "equal"

    def supports(self, cell: Estimate) -> bool:
        """Whether the two agree."""
        return abs(cell.value - cell.paper) <= self.tolerance + 1e-9

    def strength(self, cell: Estimate) -> float:
        """The distance from the number stated, negative."""
        return -abs(cell.value - cell.paper)


def parse_rule(text: str) -> Rule:
    """`above -0.5`, `below 1`, `equal`, `significantly below`, `not significantly above`."""
    match text.split():
        case ["above" | "below" as side, threshold]:
            return Side(SIDES[side], float(threshold))
        case ["equal"]:
            return Equal()
        case [*no, "significantly", "above" | "below" as side] if no in ([], ["not"]):
            return Significance(SIDES[side], significant=not no)
    raise ValueError(f"claims.yaml: {text!r} is no rule; see rules.parse_rule")


def holm(p_values: ArrayLike, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure rejects; NaN is none.

    As statsmodels' `multipletests`, which collects garbage on each of our hundreds of calls.
    """
    p = np.asarray(p_values, dtype=float)
    order, left = np.argsort(p), np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order] = np.logical_and.accumulate(p[order] <= alpha / np.maximum(left, 1))
    return rejected


def judge(cells: Sequence[Estimate], rule: Rule) -> str:
    """One of VERDICTS. A refuted cell decides even if others were not run; to hold, all have to
    be there."""
    ran = [cell for cell in cells if cell.ran]
    if not ran:
        return NOT_RUN
    if any(rule.refutes(ran)):
        return FAILS
    return HOLDS if len(ran) == len(cells) and all(map(rule.supports, ran)) else UNDECIDED


def deciding(cells: Sequence[Estimate], rule: Rule) -> Estimate | None:
    """The cell that speaks least for the claim (or most against it), None if none was run."""

    def order(cell: Estimate) -> tuple[float, float]:
        strength = rule.strength(cell)
        return 0.0 if math.isnan(strength) else strength, rule.sign * cell.value

    return min((cell for cell in cells if cell.ran), key=order, default=None)


def needs(cells: Sequence[Estimate], rule: Rule) -> str:
    """What an undecided claim would need to be decided; empty if it is not undecided."""
    if judge(cells, rule) != UNDECIDED:
        return ""
    parts = []
    ran, missing = [c for c in cells if c.ran], [c.name for c in cells if not c.ran]
    if missing:
        names = "; ".join(missing[:4]) + ("; …" if len(missing) > 4 else "")
        parts.append(f"runs for {len(missing)} of {len(cells)} cells ({names})")
    bare = sum(math.isnan(rule.strength(cell)) for cell in ran)
    if bare:
        parts.append(f"{MIN_SEEDS} seeds or more for the {bare} without interval")
    if isinstance(rule, Side):
        parts += _more(ran, rule)
    return "; ".join(parts)


def _more(ran: Sequence[Estimate], rule: Side) -> list[str]:
    """How much more data: to refute, where a cell's estimate lies on the other side (the nearest
    such cell is enough); else to confirm (the farthest cell that is not decided)."""
    rest = [c for c in ran if not math.isnan(rule.strength(c)) and not rule.supports(c)]
    against = [cell for cell in rest if rule.strength(cell) < 0]
    if not rest:
        return []
    if against:
        times, over = min(rule.factor(cell, len(ran)) for cell in against)
    else:
        times, over = max(rule.factor(cell) for cell in rest)
    if times > MANY:
        return [f"more than {MANY} times the {over}: the estimate is at the threshold"]
    outcome = "refute" if against else "confirm"
    return [f"{times:.{int(times < 10)}f} times the {over} to {outcome} it, if the estimates stay"]
