"""How a claim is graded, from its cells, each an `Estimate`, and the rule for them.

A claim of several cells ("in all cases") holds if every single cell does: an intersection-union
test, which needs no correction. It does not hold if any cell is refuted, which does need one:
Holm's over the cells that were run.

Every interval has the noise between trainings in it (`Estimate.whole`); a cell for which that is
not known decides nothing.
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
UNTESTABLE = "not testable here"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNTESTABLE, NOT_RUN)
MANY = 1000  # times more data: beyond, no number is given
PAPER_ALPHA = 0.01  # the level the paper names (section 4.2)
SIDES = {"above": 1, "below": -1}
_TEXTS = load("rules")


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

    def supports(self, cell: Estimate, cells: int = 1) -> bool:
        """Whether this cell, one of `cells`, decides for the claim."""
        return self.strength(cell, cells) > 0 and self.p(cell, cells) < ALPHA

    def refutes(self, cells: Sequence[Estimate]) -> list[bool]:
        """Which of these cells decide against the claim, corrected for their number."""
        against = [self.strength(cell, len(cells)) < 0 for cell in cells]
        p_values = [self.p(cell, len(cells)) for cell in cells]
        return (np.array(against, dtype=bool) & (holm(p_values) < ALPHA)).tolist()

    def strength(self, cell: Estimate, cells: int = 1) -> float:
        """How strongly a cell speaks for the claim, the z-value of `p`; negative: against it; NaN
        if it does not say."""
        p = self.p(cell, cells)
        return NAN if math.isnan(p) else math.copysign(_z(p), self.margin(cell, cells))

    def margin(self, cell: Estimate, cells: int = 1) -> float:
        """How far the cell lies on the claimed side."""
        raise NotImplementedError

    def p(self, cell: Estimate, cells: int = 1) -> float:
        """Two-sided p of no margin at all, with all noise; NaN if it is not known."""
        raise NotImplementedError


@dataclass(frozen=True)
class Side(Rule):
    """Every cell lies above (`sign` 1) or below (-1) the threshold."""

    sign: int = 1
    threshold: float = 0.0
    kind = "side"

    def margin(self, cell: Estimate, cells: int = 1) -> float:
        return self.sign * (cell.value - self.threshold)

    def p(self, cell: Estimate, cells: int = 1) -> float:
        return cell.p_against(self.threshold)


@dataclass(frozen=True)
class Significance(Rule):
    """The paper's own criterion: p below `alpha` on the side of `sign`, or (`significant` False)
    not. One that any small sample meets in its second form; the right test is a claim beside it.

    It is a statement of one sample, so that what it is decided by is the noise between trainings
    alone: how far the value is from the least one that would be significant.
    """

    sign: int
    alpha: float = PAPER_ALPHA
    significant: bool = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        """In rules.yaml."""
        return "significant" if self.significant else "not significant"

    def margin(self, cell: Estimate, cells: int = 1) -> float:
        # Bonferroni: whether any of several is significant, Holm answers alike
        level = self.alpha if self.significant else self.alpha / cells
        beyond = self.sign * cell.value - stats.norm.isf(level / 2) * self._error(cell)
        return beyond if self.significant else -beyond

    def p(self, cell: Estimate, cells: int = 1) -> float:
        margin, noise = self.margin(cell, cells), cell.noise
        if cell.seeds >= MIN_SEEDS and not math.isnan(cell.sd):
            between, df = cell.sd, cell.seeds - 1
        else:
            between, df = noise.sd, noise.df
        if math.isnan(margin) or not df:
            return NAN
        error = between / math.sqrt(max(1, cell.seeds))
        return float(2 * stats.t.sf(abs(margin) / error, df)) if error else float(not margin)

    def _error(self, cell: Estimate) -> float:
        """The standard error that the paper's kind of test has, of p or of the interval."""
        if not math.isnan(cell.p):
            z = _z(cell.p)
            return abs(cell.value) / z if z else math.inf
        return (cell.high - cell.low) / 2 / stats.norm.isf(ALPHA / 2)


@dataclass(frozen=True)
class Equal(Rule):
    """Arithmetic: every cell is the paper's number, up to `tolerance` (rounding)."""

    tolerance: float = 0.05
    kind = "equal"

    def margin(self, cell: Estimate, cells: int = 1) -> float:
        return self.tolerance + 1e-9 - abs(cell.value - cell.paper)

    def p(self, cell: Estimate, cells: int = 1) -> float:
        return NAN if math.isnan(self.margin(cell)) else 0.0


def _z(p: float) -> float:
    return float(stats.norm.isf(p / 2))


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


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values of Holm's step-down procedure; NaN is no hypothesis and stays.

    As statsmodels' `multipletests`, which collects garbage on each of our hundreds of calls.
    """
    p = np.asarray(p_values, dtype=float)
    order, left = np.argsort(p), np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.full(len(p), NAN)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.maximum(left, 1)))
    return adjusted


def judge(cells: Sequence[Estimate], rule: Rule) -> str:
    """One of VERDICTS. A refuted cell decides even if others were not run; to hold, all have to
    be there."""
    ran = [cell for cell in cells if cell.ran]
    if not ran:
        return NOT_RUN
    if any(rule.refutes(ran)):
        return FAILS
    every = len(ran) == len(cells) and all(rule.supports(cell, len(ran)) for cell in ran)
    return HOLDS if every else UNDECIDED


def p_of(cells: Sequence[Estimate], rule: Rule) -> float:
    """The p by which `judge` decides at ALPHA: of the weakest cell where all speak for the claim,
    else the least of those against it, Holm's correction included; NaN if it cannot decide."""
    ran = [cell for cell in cells if cell.ran]
    strength = np.array([rule.strength(cell, len(ran)) for cell in ran])
    p_values = [rule.p(cell, len(ran)) for cell in ran]
    if (strength < 0).any():
        return float(np.min(holm(p_values)[strength < 0]))
    return float(np.max(p_values)) if ran and len(ran) == len(cells) else NAN


def join(first: str, second: str) -> str:
    """The verdict of a claim graded in two metrics.

    It is that of one where the other agrees or does not decide; two that contradict do not decide.
    """
    decided = {one for one in (first, second) if one in (HOLDS, FAILS)}
    if len(decided) == 1:
        return decided.pop()
    return UNDECIDED if decided or UNDECIDED in (first, second) else first


def deciding(cells: Sequence[Estimate], rule: Rule) -> Estimate | None:
    """The cell that speaks least for the claim (or most against it), None if none was run."""
    ran = [cell for cell in cells if cell.ran]

    def order(cell: Estimate) -> tuple[float, float]:
        strength = rule.strength(cell, len(ran))
        return 0.0 if math.isnan(strength) else strength, rule.margin(cell, len(ran))

    return min(ran, key=order, default=None)


def needs(cells: Sequence[Estimate], rule: Rule) -> str:
    """What an undecided claim would need to be decided; empty if it is not undecided."""
    if judge(cells, rule) != UNDECIDED:
        return ""
    parts = []
    ran, missing = [c for c in cells if c.ran], [c.name for c in cells if not c.ran]
    if missing:
        names = "; ".join(missing[:4]) + ("; …" if len(missing) > 4 else "")
        parts.append(f"runs for {len(missing)} of {len(cells)} cells ({names})")
    unknown = [cell for cell in ran if math.isnan(rule.p(cell, len(ran)))]
    if unknown:
        parts.append(
            f"{MIN_SEEDS} seeds or more for {len(unknown)} of {len(cells)} cells, of which the "
            "noise between trainings is not known"
        )
    if isinstance(rule, Side):
        parts += _more([cell for cell in ran if cell not in unknown], rule, len(ran))
    elif len(unknown) < len(ran):
        parts.append("more seeds: the value is as near to that level as other trainings move it")
    return "; ".join(parts)


def _more(ran: Sequence[Estimate], rule: Side, cells: int) -> list[str]:
    """How much more data: to refute, where a cell's estimate lies on the other side (the nearest
    such cell is enough); else to confirm (the farthest cell that is not decided).

    An interval's half-width falls with the square root of what it is over, so that (half-width /
    distance to the threshold)² times as much decides, if the estimate stays.
    """
    rest = [cell for cell in ran if not rule.supports(cell)]
    if not rest:
        return []
    against = [cell for cell in rest if rule.margin(cell) < 0]
    outcome = "refute" if against else "confirm"
    corrected = cells if against else 1
    found = [_factor(cell, rule, corrected) for cell in against or rest]
    times, over = min(found) if against else max(found)
    if times > MANY:
        return [f"more than {MANY} times the {over}: the estimate is at the threshold"]
    return [f"{times:.{int(times < 10)}f} times the {over} to {outcome} it, if the estimates stay"]


def _factor(cell: Estimate, rule: Side, cells: int) -> tuple[float, str]:
    """How many times more of what; `cells`: of how many the correction is."""
    margin, found = rule.margin(cell), []
    for part in cell.parts():
        error = part.below if (margin > 0) == (rule.sign > 0) else part.above
        half = float(stats.t.isf(ALPHA / 2 / cells, part.df)) * error
        found.append(((half / margin) ** 2 if margin else math.inf, part.over))
    return max(found)
