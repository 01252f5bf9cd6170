"""The ledger: every claim, graded on the tables of one scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from study.analysis.estimate import Estimate
from study.claims import load
from study.claims.evidence import Evidence, evidence
from study.claims.rules import Rule, Side, deciding, judge, needs, parse_rule
from study.claims.sources import Tables
from study.format import MISSING, signed
from study.labels import NOT_RUN

FOR, AGAINST, NEITHER = "for", "against", "neither"


@dataclass(frozen=True)
class Claim:
    """One checkable sentence. `sentence` is the paper's own, `reading` what we test of it.

    `paper`: its value in words, where the evidence's cells do not have it.
    """

    id: str
    section: str
    sentence: str
    reading: str
    evidence: Evidence
    rule: Rule = field(default_factory=Side)
    paper: str = ""


def _claim(entry: Mapping[str, Any]) -> Claim:
    fields = dict(entry)
    found = evidence(fields["evidence"])
    fields["evidence"] = replace(found, test=fields.pop("test", found.test))
    return Claim(**fields | {"rule": parse_rule(fields.get("rule", "above 0"))})


CLAIMS = tuple(map(_claim, load("claims")))


@dataclass(frozen=True)
class Graded:
    """A claim, the cells it was tested on, and what came of it."""

    claim: Claim
    cells: tuple[Estimate, ...]

    @cached_property
    def verdict(self) -> str:
        """One of `rules.VERDICTS`."""
        return judge(self.cells, self.claim.rule)

    @property
    def needs(self) -> str:
        """What would decide it, if it is undecided."""
        return needs(self.cells, self.claim.rule)

    @cached_property
    def speaks(self) -> list[str]:
        """Of each cell: FOR | AGAINST | NEITHER | not run."""
        rule, ran = self.claim.rule, [cell for cell in self.cells if cell.ran]
        said = iter(
            AGAINST if refuted else FOR if rule.supports(cell) else NEITHER
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


def grade(tables: Tables, claims: Sequence[Claim] = CLAIMS) -> list[Graded]:
    """All claims, graded. Raises UserError if a table lacks a column."""
    return [Graded(claim, tuple(claim.evidence.cells(tables))) for claim in claims]


def ledger_table(graded: Sequence[Graded]) -> pd.DataFrame:
    """A row a claim.

    Columns: id, section, sentence (the paper's), reading (what is tested of it), kind (our runs |
    the paper's own numbers | definitions and COCO's boxes), source (file), test (how the interval
    came about), rule; paper (its value, as text); cell, value, low, high (95 %) of the cell that
    speaks least for the claim, in `unit`; seeds (the fewest of the cells that were run; 0: none, or
    not said); cells, cells_run, cells_for, cells_against; verdict (`rules.VERDICTS`); needs (what
    an undecided one would need, else empty).
    """
    return pd.DataFrame([_row(one) for one in graded])


def _row(one: Graded) -> dict[str, object]:
    claim, rule, speaks = one.claim, one.claim.rule, one.speaks
    cell = deciding(one.cells, rule) or Estimate()
    ran = [c.seeds for c in one.cells if c.ran]
    return {
        **{name: getattr(claim, name) for name in ("id", "section", "sentence", "reading")},
        **{name: getattr(claim.evidence, name) for name in ("kind", "source", "test")},
        "rule": rule.text,
        "paper": one.paper_text(),
        "cell": cell.name,
        **{name: getattr(cell, name) for name in ("value", "low", "high")},
        "unit": claim.evidence.unit,
        "seeds": min(ran, default=0),
        "cells": len(one.cells),
        "cells_run": len(ran),
        "cells_for": speaks.count(FOR),
        "cells_against": speaks.count(AGAINST),
        "verdict": one.verdict,
        "needs": one.needs,
    }
