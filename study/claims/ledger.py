"""The ledger: every claim, graded on the tables of one scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from study import format as markdown
from study.claims.claim import Claim
from study.claims.generalisation import GENERALISATION
from study.claims.insights import INSIGHTS
from study.claims.rules import Cell
from study.claims.schedules import SCHEDULES
from study.claims.sources import Tables
from study.claims.verdict import NOT_RUN, deciding, judge, needs

CLAIMS: tuple[Claim, ...] = (*INSIGHTS, *GENERALISATION, *SCHEDULES)
FOR, AGAINST, NEITHER = "for", "against", "neither"
COLUMNS = ["id", "section", "sentence", "reading", "kind", "source", "test", "rule", "paper",
           "cell", "value", "low", "high", "unit", "seeds", "cells", "cells_run", "cells_for",
           "cells_against", "verdict", "needs"]  # fmt: skip


@dataclass(frozen=True)
class Graded:
    """A claim, the cells it was tested on, and what came of it."""

    claim: Claim
    cells: tuple[Cell, ...]

    @property
    def verdict(self) -> str:
        """One of `verdict.VERDICTS`."""
        return judge(self.cells, self.claim.rule)

    @property
    def needs(self) -> str:
        """What would decide it, if it is undecided."""
        return needs(self.cells, self.claim.rule)

    @property
    def ran(self) -> list[Cell]:
        """The cells that were run."""
        return [cell for cell in self.cells if cell.ran]

    @property
    def deciding(self) -> Cell | None:
        """The cell that speaks least for the claim."""
        return deciding(self.cells, self.claim.rule)

    def speaks(self) -> list[str]:
        """Of each cell: FOR | AGAINST | NEITHER | not run."""
        refuted = iter(self.claim.rule.refutes(self.ran))
        return [self._one(cell, next(refuted)) if cell.ran else NOT_RUN for cell in self.cells]

    def _one(self, cell: Cell, refuted: bool) -> str:
        if refuted:
            return AGAINST
        return FOR if self.claim.rule.supports(cell) else NEITHER

    def paper_text(self) -> str:
        """The paper's value: its words, or its number, or the range of its numbers."""
        stated = sorted(cell.paper for cell in self.cells if not math.isnan(cell.paper))
        if self.claim.paper or not stated:
            return self.claim.paper or markdown.MISSING
        digits = 2 if self.claim.evidence.unit == "r" else 1
        low, high = (markdown.signed(value, digits) for value in (stated[0], stated[-1]))
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
    not said); cells, cells_run, cells_for, cells_against; verdict (`verdict.VERDICTS`); needs (what
    an undecided one would need, else empty).
    """
    return pd.DataFrame([_row(one) for one in graded], columns=COLUMNS)


def _row(one: Graded) -> dict[str, object]:
    claim, cell = one.claim, one.deciding or Cell("")
    return {
        "id": claim.id,
        "section": claim.section,
        "sentence": claim.sentence,
        "reading": claim.reading,
        "kind": claim.evidence.kind,
        "source": claim.evidence.source,
        "test": claim.evidence.test,
        "rule": claim.rule.text,
        "paper": one.paper_text(),
        "cell": cell.name,
        "value": cell.value,
        "low": cell.low,
        "high": cell.high,
        "unit": claim.evidence.unit,
        "seeds": min((c.seeds for c in one.ran), default=0),
        "cells": len(one.cells),
        "cells_run": len(one.ran),
        "cells_for": one.speaks().count(FOR),
        "cells_against": one.speaks().count(AGAINST),
        "verdict": one.verdict,
        "needs": one.needs,
    }
