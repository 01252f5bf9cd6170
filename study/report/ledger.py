"""The claims ledger as entries to read and to filter. `claims.csv` has one claim a row.

Its columns are those of `study.claims.ledger`; one that is missing is left out here, and one that
is not known is shown under its own name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study import format as markdown
from study.claims.sources import COST
from study.claims.text import value_text
from study.labels import NOT_RUN

# The kinds of verdict, for their colour and their sign; what is none of these is shown as it is.
KINDS = {
    "holds": "holds",
    "does not hold": "fails",
    "not decided at this scale": "undecided",
    NOT_RUN: "missing",
}
_NUMBERS = ("value", "low", "high", "unit", "cell", "seeds")
_COUNTS = ("cells", "cells_run", "cells_for", "cells_against")
_LEAD = ("id", "section", "sentence", "verdict", "kind")


@dataclass(frozen=True)
class Entry:
    """One claim: the paper's sentence, its verdict, and by label what was tested and found; `more`:
    how that was decided, and whatever else the ledger says."""

    id: str
    section: str
    sentence: str
    tested_on: str
    verdict: str
    kind: str
    facts: Mapping[str, str]
    more: Mapping[str, str]


def counts(claims: pd.DataFrame | None) -> dict[str, int]:
    """Number of claims by verdict, in the order of KINDS, then what else there is."""
    if claims is None or "verdict" not in claims:
        return {}
    found = claims["verdict"].astype(str).value_counts().to_dict()
    return {v: found[v] for v in [*KINDS, *found] if v in found}


def entries(claims: pd.DataFrame | None) -> list[Entry]:
    """The ledger, in its own order."""
    return [] if claims is None else [_entry(row) for row in claims.to_dict("records")]


def _entry(row: Mapping[str, Any]) -> Entry:
    lead = {name: _text(row.get(name)) for name in _LEAD}
    section = lead["section"]
    facts = {
        "tested": _text(row.get("reading")),
        "paper": _text(row.get("paper")).strip(markdown.MISSING),
        "ours": _ours(row),
        "needs": _text(row.get("needs")),
    }
    known = {*_LEAD, *_NUMBERS, *_COUNTS, "reading", "paper", "needs"}
    more = {"cells": _cells(row)}
    more |= {name.replace("_", " "): _text(row[name]) for name in row if name not in known}
    return Entry(
        lead["id"],
        f"section {section}" if section[:1].isdigit() else section,
        lead["sentence"],
        lead["kind"],
        lead["verdict"],
        KINDS.get(lead["verdict"], "other"),
        {label: text for label, text in facts.items() if text},
        {label: text for label, text in more.items() if text},
    )


def _ours(row: Mapping[str, Any]) -> str:
    """`+1.2 AP (+0.4 to +2.0), R-50, voc → non-voc, 3 seeds`: the cell that decides."""
    value, low, high = (_float(row.get(name)) for name in ("value", "low", "high"))
    if value != value:
        return NOT_RUN if "value" in row else ""
    unit = _text(row.get("unit"))
    text = value_text(value, low, high, unit, "" if unit == COST else unit)  # its cell says of what
    if cell := _text(row.get("cell")):
        text += f", {cell}"
    seeds = _float(row.get("seeds"))
    return text + (f", {seeds:.0f} {'seed' if seeds == 1 else 'seeds'}" if seeds > 0 else "")


def _cells(row: Mapping[str, Any]) -> str:
    """`3 of 4 for, 1 against`, where a claim has several."""
    total, run, support, against = (_float(row.get(name)) for name in _COUNTS)
    if not total > 1:
        return ""
    text = f"{support:.0f} of {total:.0f} decide for it, {against:.0f} against"
    return text + (f"; {total - run:.0f} {NOT_RUN}" if run < total else "")


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _text(value: object) -> str:
    if value is None or value != value:  # NaN is not itself
        return ""
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
