"""The claims ledger: how many came out how, a line a claim, and each with its cells.

`claims.csv` has one claim a row, with the columns of `study.claims.ledger.ledger_table`.
"""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd

from study.analysis.estimate import MIN_SEEDS
from study.claims.findings import findings
from study.claims.ledger import Graded
from study.claims.rules import VERDICTS
from study.claims.sources import COST, COUNTS, KINDS, PAPERS, RANK
from study.format import MISSING, number, signed
from study.labels import NOT_RUN
from study.report.blocks import Bullets, Table
from study.report.render import render
from study.report.words import WORDS

# The kinds of verdict, for their colour and their sign; what is none of these is shown as it is.
STYLES = dict(zip(VERDICTS, ("holds", "fails", "undecided", "missing"), strict=True))
RULES = Bullets([rule.format(seeds=MIN_SEEDS) for rule in WORDS["claim_rules"]])


def counts(ledger: pd.DataFrame | None) -> dict[str, int]:
    """Number of claims by verdict, in the order of VERDICTS, then what else there is."""
    found = {} if ledger is None else ledger["verdict"].value_counts().to_dict()
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


def entries(ledger: pd.DataFrame | None) -> list[SimpleNamespace]:
    """The ledger's rows, in its own order, with what pages show of each.

    place: where the sentence stands; tested_on: of KINDS; style: of the verdict; facts, by label:
    what was tested and found; more: how that was decided.
    """
    rows = [] if ledger is None else ledger.fillna({"cell": "", "needs": ""}).to_dict("records")
    return [SimpleNamespace(**row, **_shown(row)) for row in rows]


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    section = str(row["section"])
    # of the paper's own numbers nothing is ours
    computed = "computed" if row["kind"] == PAPERS else "ours"
    facts = {"tested": row["reading"], "paper": row["paper"], computed: _ours(row)}
    facts["needs"] = row["needs"]
    more = {"cells": _cells(row)} if row["cells"] > 1 else {}
    return {
        "place": f"section {section}" if section[:1].isdigit() else section,
        "tested_on": row["kind"],
        "style": STYLES.get(row["verdict"], "other"),
        "facts": {name: text for name, text in facts.items() if text not in ("", MISSING)},
        "more": more | {name: row[name] for name in ("source", "test", "rule")},
    }


def _ours(row: Mapping[Any, Any]) -> str:
    """`+1.2 AP (+0.4 to +2.0), R-50, voc → non-voc, 3 seeds`: the cell that decides."""
    unit, seeds = row["unit"], row["seeds"]
    name = "" if unit == COST else unit  # its cell says of what
    text = value_text(row["value"], row["low"], row["high"], unit, name)
    count = f"{seeds} {'seed' if seeds == 1 else 'seeds'}" if seeds else ""
    return ", ".join(part for part in (text, row["cell"], count) if part)


def _cells(row: Mapping[Any, Any]) -> str:
    """`3 of 4 decide for it, 1 against`, where a claim has several."""
    text = f"{row['cells_for']} of {row['cells']} decide for it, {row['cells_against']} against"
    missing = row["cells"] - row["cells_run"]
    return f"{text}; {missing} {NOT_RUN}" if missing else text


def _cell_table(one: Graded) -> Table:
    """A line a cell; columns that no cell fills are left out."""
    unit = one.claim.evidence.unit
    rows = [
        {
            "Cell": cell.name,
            "Computed" if one.claim.evidence.kind == PAPERS else "Ours": value_text(
                cell.value, cell.low, cell.high, unit
            ),
            "Seeds": (str(cell.seeds) if cell.seeds else MISSING)
            + ("" if math.isnan(cell.sd) else f" ± {number(cell.sd, 2)}"),
            "p": number(cell.p, 4),
            "Paper": signed(cell.paper, 2),
        }
        for cell in one.cells
    ]
    table = pd.DataFrame(rows).assign(Speaks=one.speaks)
    return Table(table.loc[:, (table != MISSING).any()])


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
