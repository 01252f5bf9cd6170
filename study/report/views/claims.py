"""The claims ledger: how many came out how, a line a claim, and each with its cells.

`claims.csv` has one claim a row, with the columns of `study.claims.ledger.COLUMNS`; one that is
missing is left out here, and one that is not known is shown under its own name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.analysis.estimate import MIN_SEEDS
from study.claims.findings import findings
from study.claims.ledger import Graded
from study.claims.sources import COST, COUNTS, KINDS, PAPERS, RANK
from study.claims.verdict import VERDICTS
from study.format import MISSING, number, signed
from study.labels import NOT_RUN
from study.report.blocks import Bullets, Table
from study.report.render import render
from study.report.words import WORDS

# The kinds of verdict, for their colour and their sign; what is none of these is shown as it is.
STYLES = dict(zip(VERDICTS, ("holds", "fails", "undecided", "missing"), strict=True))
RULES = Bullets([rule.format(seeds=MIN_SEEDS) for rule in WORDS["claim_rules"]])
_NUMBERS = ("value", "low", "high", "unit", "cell", "seeds")
_CELLS = ("cells", "cells_run", "cells_for", "cells_against")
_LEAD = ("id", "section", "sentence", "verdict", "kind", "reading", "paper", "needs")


@dataclass(frozen=True)
class Entry:
    """One claim: the paper's sentence and where it stands, its verdict and that one's style, and by
    label what was tested and found; `more`: how that was decided, and whatever else the ledger
    says."""

    id: str
    place: str
    sentence: str
    tested_on: str
    verdict: str
    style: str
    unit: str
    facts: Mapping[str, str]
    more: Mapping[str, str]


def counts(ledger: pd.DataFrame | None) -> dict[str, int]:
    """Number of claims by verdict, in the order of VERDICTS, then what else there is."""
    if ledger is None or "verdict" not in ledger:
        return {}
    found = ledger["verdict"].astype(str).value_counts().to_dict()
    return {v: found[v] for v in [*VERDICTS, *found] if v in found}


def lead(ledger: pd.DataFrame, at: str = "") -> str:
    """`**3 claims at scale x. Holds: 2; not run: 1.**`; `at`: "at scale `x`"."""
    words = "; ".join(f"{verdict}: {count}" for verdict, count in counts(ledger).items())
    return f"**{len(ledger)} claims {at}. {words.capitalize()}.**"


def how(scale: str) -> str:
    """What the verdicts and the columns of the overview mean."""
    text = str(WORDS["verdicts"])
    return text if scale == "coco" else f"{text} {WORDS['verdicts_of_other_data']}"


def by_kind(ledger: pd.DataFrame) -> Table:
    """How many claims came out how, by what they are tested on."""
    table = pd.crosstab(ledger["kind"], ledger["verdict"])
    table = table.reindex(index=list(KINDS), columns=list(VERDICTS), fill_value=0)
    table["all"] = table.sum(axis=1)
    table.loc["all"] = table.sum()
    return Table(table.rename_axis(index="Tested on", columns=None).reset_index())


def overview(ledger: pd.DataFrame) -> Table:
    """A line a claim."""
    rows = [
        {
            "Claim": f"[{row['id']}](#{row['id']})",
            "Where": row["section"],
            "What is tested": row["reading"],
            "Paper": row["paper"],
            "Ours": MISSING
            if row["kind"] == PAPERS
            else value_text(row["value"], row["low"], row["high"], row["unit"]),
            "For": f"{row['cells_for']} of {row['cells']}",
            "Verdict": row["verdict"],
        }
        for row in ledger.to_dict("records")
    ]
    return Table(pd.DataFrame(rows), left=3)


def entries(ledger: pd.DataFrame | None) -> list[Entry]:
    """The ledger, in its own order."""
    return [] if ledger is None else [_entry(row) for row in ledger.to_dict("records")]


def _entry(row: Mapping[Any, Any]) -> Entry:
    lead = {name: _text(row.get(name)) for name in _LEAD}
    facts = {
        "tested": lead["reading"],
        "paper": lead["paper"].strip(MISSING),
        # of the paper's own numbers nothing is ours
        "computed" if lead["kind"] == PAPERS else "ours": _ours(row),
        "needs": lead["needs"],
    }
    more = {"cells": _cells(row)} | {
        name.replace("_", " "): _text(row[name])
        for name in row
        if name not in {*_LEAD, *_NUMBERS, *_CELLS}
    }
    section = lead["section"]
    return Entry(
        lead["id"],
        f"section {section}" if section[:1].isdigit() else section,
        lead["sentence"],
        lead["kind"],
        lead["verdict"],
        STYLES.get(lead["verdict"], "other"),
        _text(row.get("unit")),
        {label: text for label, text in facts.items() if text},
        {label: text for label, text in more.items() if text},
    )


def _ours(row: Mapping[Any, Any]) -> str:
    """`+1.2 AP (+0.4 to +2.0), R-50, voc → non-voc, 3 seeds`: the cell that decides."""
    value, low, high = (_float(row.get(name)) for name in ("value", "low", "high"))
    if math.isnan(value):
        return NOT_RUN if "value" in row else ""
    unit = _text(row.get("unit"))
    text = value_text(value, low, high, unit, "" if unit == COST else unit)  # its cell says of what
    if cell := _text(row.get("cell")):
        text += f", {cell}"
    seeds = _float(row.get("seeds"))
    return text + (f", {seeds:.0f} {'seed' if seeds == 1 else 'seeds'}" if seeds > 0 else "")


def _cells(row: Mapping[Any, Any]) -> str:
    """`3 of 4 for, 1 against`, where a claim has several."""
    total, run, support, against = (_float(row.get(name)) for name in _CELLS)
    if not total > 1:
        return ""
    text = f"{support:.0f} of {total:.0f} decide for it, {against:.0f} against"
    return text + (f"; {total - run:.0f} {NOT_RUN}" if run < total else "")


def _cell_table(one: Graded) -> Table:
    """A line a cell; columns that no cell fills are left out."""
    rows = []
    for cell, speaks in zip(one.cells, one.speaks(), strict=True):
        line = {
            "Cell": cell.name,
            "Computed" if one.claim.evidence.kind == PAPERS else "Ours": value_text(
                cell.value, cell.low, cell.high, one.claim.evidence.unit
            ),
        }
        if any(c.seeds for c in one.cells):
            spread = "" if math.isnan(cell.sd) else f" ± {number(cell.sd, 2)}"
            line["Seeds"] = (str(cell.seeds) if cell.seeds else MISSING) + spread
        if any(not math.isnan(c.p) for c in one.cells):
            line["p"] = number(cell.p, 4)
        if any(not math.isnan(c.paper) for c in one.cells):
            line["Paper"] = signed(cell.paper, 2)
        rows.append(line | {"Speaks": speaks})
    return Table(pd.DataFrame(rows))


def claims_page(graded: Sequence[Graded], ledger: pd.DataFrame, scale: str) -> str:
    """`reports/<scale>/claims.md`. `ledger`: of `graded`."""
    return render(
        "claims.md.j2",
        lead=lead(ledger, f"at scale `{scale}`"),
        by_kind=by_kind(ledger),
        how=how(scale),
        overview=overview(ledger),
        rules=RULES,
        claims=list(zip(entries(ledger), map(_cell_table, graded), strict=True)),
        findings={heading: Bullets(texts) for heading, texts in findings().items()},
    )


def value_text(value: float, low: float, high: float, unit: str, name: str = "") -> str:
    """`+1.20 AP (+0.40 to +2.00)`: a number with its interval; counts and ranks without a sign.

    unit: of `sources.Evidence`. name: how it is called in the text, nothing if empty. `low` equal
    to `high` is a number without uncertainty, NaN one without interval.
    """
    if math.isnan(value):
        return NOT_RUN
    form = number if unit in COUNTS else signed
    digits = 0 if all(v == round(v) for v in (value, low) if not math.isnan(v)) else 2
    text, low_text, high_text = (form(v, digits) for v in (value, low, high))
    if name:
        text = f"{name} {text}" if unit == RANK else f"{text} {name}"
    if math.isnan(low):
        return f"{text} (no interval)"
    return text if low == high else f"{text} ({low_text} to {high_text})"


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _text(value: object) -> str:
    if value is None or value != value:  # NaN is not itself
        return ""
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
