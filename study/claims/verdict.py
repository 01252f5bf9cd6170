"""How a claim is graded, from its cells and its rule.

A claim of several cells ("in all cases") holds if every single cell does: an intersection-union
test, which needs no correction. It does not hold if any cell is refuted, which does need one:
Holm's over the cells that were run.
"""

import math
from collections.abc import Sequence

from study.analysis.estimate import MIN_SEEDS, Estimate
from study.claims.rules import Rule, Side
from study.labels import NOT_RUN

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED = "not decided at this scale"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_RUN)
MANY = 1000  # times more data: beyond, no number is given


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
