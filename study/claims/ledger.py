"""The ledger: every claim, graded on the tables of one scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from study.analysis.estimate import ALPHA, MIN_SEEDS, NAN, NOTHING, RUNS, Estimate
from study.claims import load
from study.claims.conditions import COMPLETE, Setting
from study.claims.evidence import Evidence, evidence
from study.claims.rules import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    Rule,
    Side,
    deciding,
    holm,
    join,
    judge,
    needs,
    p_of,
    parse_rule,
)
from study.claims.sources import COUNTS, OURS, Tables
from study.format import MISSING, interval, number, signed
from study.labels import NOT_RUN

FOR, AGAINST, NEITHER = "for", "against", "neither"


@dataclass(frozen=True)
class Claim:
    """One checkable sentence. `sentence` is the paper's own, `reading` what we test of it.

    `paper`: its value in words, where the evidence's cells do not have it. testable: what of a
    scale it needs, see `conditions.Setting`. beside: numbers that a reader has to know with it.
    """

    id: str
    section: str
    sentence: str
    reading: str
    evidence: Evidence
    rule: Rule = field(default_factory=Side)
    paper: str = ""
    testable: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[Evidence] = ()


def _claim(entry: Mapping[str, Any]) -> Claim:
    fields = dict(entry)
    fields["evidence"] = evidence(fields["evidence"])
    fields["beside"] = tuple(map(evidence, fields.get("beside", ())))
    return Claim(**fields | {"rule": parse_rule(fields.get("rule", "above 0"))})


CLAIMS = tuple(map(_claim, load("claims")))


@dataclass(frozen=True)
class Graded:
    """A claim, the cells it was tested on, and what came of it.

    second: its cells in the second metric, none where the tables have none. lacks: why the scale
    cannot test it. beside: a line each of what the claim has beside it.
    """

    claim: Claim
    cells: tuple[Estimate, ...]
    second: tuple[Estimate, ...] = ()
    lacks: str = ""
    beside: tuple[str, ...] = ()

    @cached_property
    def verdicts(self) -> list[str]:
        """In each metric there is, without regard to what the scale can test."""
        return [judge(cells, self.claim.rule) for cells in (self.cells, self.second) if cells]

    @property
    def verdict(self) -> str:
        """One of `rules.VERDICTS`, for this claim by itself."""
        found = (
            join(*self.verdicts) if len(self.verdicts) > 1 else judge(self.cells, self.claim.rule)
        )
        return UNTESTABLE if self.lacks and found != NOT_RUN else found

    @property
    def p(self) -> float:
        """The p by which it is decided, for the correction over the ledger: of two metrics twice
        the lesser one, as either decides; NaN where there is none or it was not tested."""
        if self.claim.evidence.kind != OURS or self.verdict in (UNTESTABLE, NOT_RUN):
            return NAN
        if {HOLDS, FAILS} <= {*self.verdicts}:
            return 1.0
        found = [p_of(cells, self.claim.rule) for cells in (self.cells, self.second) if cells]
        known = [p for p in found if not math.isnan(p)]
        return min(1.0, len(known) * min(known)) if known else NAN

    @property
    def needs(self) -> str:
        """What would decide it, if it is undecided."""
        return needs(self.cells, self.claim.rule) if self.verdict == UNDECIDED else ""

    @cached_property
    def speaks(self) -> list[str]:
        """Of each cell: FOR | AGAINST | NEITHER | not run."""
        rule, ran = self.claim.rule, [cell for cell in self.cells if cell.ran]
        said = iter(
            AGAINST if refuted else FOR if rule.supports(cell, len(ran)) else NEITHER
            for cell, refuted in zip(ran, rule.refutes(ran), strict=True)
        )
        return [next(said) if cell.ran else NOT_RUN for cell in self.cells]

    def paper_text(self) -> str:
        """The paper's value: its words, or its number, or the range of its numbers."""
        stated = sorted(cell.paper for cell in self.cells if not math.isnan(cell.paper))
        if self.claim.paper or not stated:
            return self.claim.paper or MISSING
        digits = 2 if self.claim.evidence.unit == "r" else 1
        low, high = (signed(value, digits) for value in (stated[0], stated[-1]))
        return low if low == high else f"{low} to {high}"


def grade(
    tables: Tables, claims: Sequence[Claim] = CLAIMS, setting: Setting = COMPLETE
) -> list[Graded]:
    """All claims, graded. `setting`: of the scale. Raises UserError if a table lacks a column."""
    return [
        Graded(
            claim,
            tuple(claim.evidence.cells(tables)),
            tuple(claim.evidence.second(tables)),
            setting.lacks(claim.testable),
            tuple(
                _told(cell, one) for one in claim.beside for cell in one.cells(tables) if cell.ran
            ),
        )
        for claim in claims
    ]


def corrected(graded: Sequence[Graded]) -> pd.DataFrame:
    """Of each claim p, p_holm and the verdict that is left after Holm's correction over all claims
    of our runs that have a p; the others' verdicts stay. Columns p, p_holm, verdict."""
    adjusted = holm([one.p for one in graded])
    left = [
        UNDECIDED if one.verdict in (HOLDS, FAILS) and p >= ALPHA else one.verdict
        for one, p in zip(graded, adjusted, strict=True)
    ]
    return pd.DataFrame({"p": [one.p for one in graded], "p_holm": adjusted, "verdict": left})


def noise_text(cell: Estimate) -> str:
    """How the noise between trainings is in a cell's interval; empty if it has no part in it."""
    if not cell.ran or cell.over in (NOTHING, RUNS):
        return ""
    if cell.seeds >= MIN_SEEDS and not math.isnan(cell.sd):
        return f"± {number(cell.sd, 2)} over {cell.seeds} seeds"
    if not cell.noise.known:
        return "not known"
    return f"± {number(cell.noise.sd, 2)} ({cell.noise.origin}; {cell.noise.df} df)"


def _told(cell: Estimate, about: Evidence) -> str:
    exact = math.isnan(cell.low) or cell.low == cell.high
    form = number if about.unit in COUNTS else signed
    text = f"{cell.name}: {form(cell.value, 2)} {about.unit}"
    return text if exact else f"{text} ({interval(cell.low, cell.high)})"


def ledger_table(graded: Sequence[Graded]) -> pd.DataFrame:
    """A row a claim.

    Columns: id, section, sentence (the paper's), reading (what is tested of it), kind (our runs |
    the paper's own numbers | definitions and COCO's boxes), source (file), test (how the interval
    came about), rule; paper (its value, as text); cell, value, low, high (95 %, with the noise
    between trainings), own_low, own_high (without it) of the cell that speaks least for the claim,
    in `unit`; noise (between trainings, in words); second (the cell that speaks least in the second
    metric, and what that says); beside (what a reader has to know with it); seeds (the fewest of
    the cells that were run; 0: none, or not said); cells, cells_run, cells_for, cells_against;
    verdict (`rules.VERDICTS`), p, p_holm and verdict_corrected (of `corrected`), needs (what an
    undecided one would need, else empty), lacks (why the scale cannot test it, else empty).
    """
    after = corrected(graded).rename(columns={"verdict": "verdict_corrected"})
    return pd.DataFrame([_row(one) for one in graded]).join(after)


def _row(one: Graded) -> dict[str, object]:
    claim, rule, speaks = one.claim, one.claim.rule, one.speaks
    cell = deciding(one.cells, rule) or Estimate()
    whole = cell.whole()
    ran = [c.seeds for c in one.cells if c.ran]
    return {
        **{name: getattr(claim, name) for name in ("id", "section", "sentence", "reading")},
        **{name: getattr(claim.evidence, name) for name in ("kind", "source", "test")},
        "rule": rule.text,
        "paper": one.paper_text(),
        "cell": cell.name,
        "value": cell.value,
        **{"low": whole.low, "high": whole.high, "own_low": cell.low, "own_high": cell.high},
        "unit": claim.evidence.unit,
        "noise": noise_text(cell),
        "second": _second(one),
        "beside": "; ".join(one.beside),
        "seeds": min(ran, default=0),
        "cells": len(one.cells),
        "cells_run": len(ran),
        "cells_for": speaks.count(FOR),
        "cells_against": speaks.count(AGAINST),
        "verdict": one.verdict,
        "needs": one.needs,
        "lacks": one.lacks if one.verdict == UNTESTABLE else "",
    }


def _second(one: Graded) -> str:
    """`mask IoU in true boxes: +6.1 (+3.0 to +9.2), opmask-R50-voc − …: holds`."""
    cell = deciding(one.second, one.claim.rule)
    if cell is None:
        return ""
    whole = cell.whole()
    found = f"{signed(cell.value, 2)} points ({interval(whole.low, whole.high)})"
    return f"mask IoU in true boxes: {found}, {cell.name}: {one.verdicts[-1]}"
