"""The ledger: every claim, graded on the tables of one scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

from study import format as markdown
from study.analysis.estimate import Estimate
from study.claims import arithmetic, evidence, schedule_evidence  # noqa: F401  (fill FUNCTIONS)
from study.claims.rules import Equal, Rule, Side, Significance
from study.claims.sources import FUNCTIONS, Evidence, Tables
from study.claims.verdict import deciding, judge, needs
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
    rule: Rule = Side()
    paper: str = ""


def load_claims() -> tuple[Claim, ...]:
    """The claims that `claims.yaml` declares."""
    text = files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8")
    return tuple(_claim(entry) for entry in yaml.safe_load(text))


def _claim(entry: Mapping[str, Any]) -> Claim:
    source = entry["evidence"]
    ((name, given),) = source.items() if isinstance(source, Mapping) else [(source, [])]
    found = FUNCTIONS[name](**given) if isinstance(given, Mapping) else FUNCTIONS[name](*given)
    found = replace(found, test=entry.get("test", found.test))
    made = {"evidence": found, "rule": parse_rule(entry.get("rule", "above 0"))}
    return Claim(**{key: value for key, value in entry.items() if key != "test"} | made)


def parse_rule(text: str) -> Rule:
    """`above -0.5`, `below 1`, `equal`, `significantly below`, `not significantly above`."""
    match text.split():
        case ["above" | "below" as side, threshold]:
            return Side(1 if side == "above" else -1, float(threshold))
        case ["equal"]:
            return Equal()
        case [*no, "significantly", "above" | "below" as side] if no in ([], ["not"]):
            return Significance(1 if side == "above" else -1, significant=not no)
    raise ValueError(f"claims.yaml: {text!r} is no rule; see ledger.parse_rule")


CLAIMS = load_claims()


@dataclass(frozen=True)
class Graded:
    """A claim, the cells it was tested on, and what came of it."""

    claim: Claim
    cells: tuple[Estimate, ...]

    @property
    def verdict(self) -> str:
        """One of `verdict.VERDICTS`."""
        return judge(self.cells, self.claim.rule)

    @property
    def needs(self) -> str:
        """What would decide it, if it is undecided."""
        return needs(self.cells, self.claim.rule)

    @property
    def ran(self) -> list[Estimate]:
        """The cells that were run."""
        return [cell for cell in self.cells if cell.ran]

    @property
    def deciding(self) -> Estimate | None:
        """The cell that speaks least for the claim."""
        return deciding(self.cells, self.claim.rule)

    def speaks(self) -> list[str]:
        """Of each cell: FOR | AGAINST | NEITHER | not run."""
        refuted = iter(self.claim.rule.refutes(self.ran))
        return [self._one(cell, next(refuted)) if cell.ran else NOT_RUN for cell in self.cells]

    def _one(self, cell: Estimate, refuted: bool) -> str:
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
    return pd.DataFrame([_row(one) for one in graded])


def _row(one: Graded) -> dict[str, object]:
    claim, cell = one.claim, one.deciding or Estimate("")
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
