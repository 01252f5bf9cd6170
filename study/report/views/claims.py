"""The claims ledger: how many came out how, a line a claim, and each with its cells.

`claims.csv` has one claim a row, with the columns of `study.claims.ledger.ledger_table`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd

from study.analysis.estimate import MIN_SEEDS, NOTHING, RUNS, Estimate
from study.claims.findings import findings
from study.claims.ledger import Graded
from study.claims.rules import VERDICTS
from study.claims.sources import COST, COUNTS, OURS, PAPERS, RANK
from study.format import MISSING, interval, number, p_cell, p_text, signed
from study.labels import NOT_RUN
from study.report.blocks import Bullets, Table
from study.report.render import render, say
from study.report.words import WORDS

# The kinds of verdict, for their colour and their sign; what is none of these is shown as it is.
STYLES = dict(zip(VERDICTS, ("holds", "fails", "undecided", "untestable", "missing"), strict=True))
RULES = Bullets([rule.format(seeds=MIN_SEEDS) for rule in WORDS["claim_rules"]])


def of_our_runs(ledger: pd.DataFrame) -> pd.Series:
    """Which rows our runs decide; the others are arithmetic, in a list of their own."""
    return ledger["kind"] == OURS


def counts(ledger: pd.DataFrame | None, column: str = "verdict") -> dict[str, int]:
    """Number of claims tested by our runs by verdict, in the order of VERDICTS, then what else."""
    if ledger is None:
        return {}
    found = ledger.loc[of_our_runs(ledger), column].value_counts().to_dict()
    return {v: found[v] for v in [*VERDICTS, *found] if v in found}


def lead(ledger: pd.DataFrame, at: str = "") -> str:
    """How many claims our runs decide, after correction too; `at`: "at scale `x`"."""
    found, left = counts(ledger), counts(ledger, "verdict_corrected")
    return say("claims", sum(found.values()), at, found, left, len(ledger) - sum(found.values()))


def how(scale: str) -> str:
    """What the verdicts and the columns of the overview mean."""
    text = str(WORDS["verdicts"])
    return text if scale == "coco" else f"{text} {WORDS['verdicts_of_other_data']}"


def by_kind(ledger: pd.DataFrame) -> Table:
    """How many claims came out how: of our runs, each by itself and corrected; the arithmetic."""
    rows = {
        "our runs, each by itself": counts(ledger),
        "our runs, corrected over the ledger (Holm)": counts(ledger, "verdict_corrected"),
    } | {
        kind: rows["verdict"].value_counts().to_dict()
        for kind, rows in ledger[~of_our_runs(ledger)].groupby("kind", sort=False)
    }
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(VERDICTS))
    table = table.fillna(0).astype(int)
    table["all"] = table.sum(axis=1)
    return Table(table.rename_axis(index="Tested on", columns=None).reset_index())


def overview(ledger: pd.DataFrame) -> Table:
    """A line a claim."""
    rows = [
        {
            "Claim": f"[{row['id']}](#{row['id']})",
            "Where": row["section"],
            "What is tested": row["reading"],
            "Paper": row["paper"],
            "Ours": MISSING if row["kind"] == PAPERS else _number(row),
            "For": f"{row['cells_for']} of {row['cells']}",
            "Verdict": row["verdict"],
            "p (Holm)": p_cell(row["p_holm"]),
            "Corrected": row["verdict_corrected"],
        }
        for row in ledger.to_dict("records")
    ]
    table = pd.DataFrame(rows)
    corrected = ["p (Holm)", "Corrected"]
    uncorrected = len(table) and (table["p (Holm)"] == MISSING).all()
    return Table(table.drop(columns=corrected) if uncorrected else table, left=3)


def entries(ledger: pd.DataFrame | None) -> list[SimpleNamespace]:
    """The ledger's rows, in its own order, with what pages show of each.

    place: where the sentence stands; tested_on: of KINDS; style: of the verdict; facts, by label:
    what was tested and found; more: how that was decided.
    """
    blank = dict.fromkeys(("cell", "noise", "second", "beside", "needs", "lacks"), "")
    rows = [] if ledger is None else ledger.fillna(blank).to_dict("records")
    return [SimpleNamespace(**row, **_shown(row)) for row in rows]


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    section = str(row["section"])
    # of the paper's own numbers nothing is ours
    computed = "computed" if row["kind"] == PAPERS else "ours"
    facts = {"tested": row["reading"], "paper": row["paper"], computed: _ours(row)}
    facts |= {"noise between trainings": row["noise"], "second metric": row["second"]}
    facts |= {"beside it": row["beside"], "needs": row["needs"], "not testable": row["lacks"]}
    more = {"cells": _cells(row)} if row["cells"] > 1 else {}
    if not math.isnan(row["p_holm"]):
        adjusted = f"p {p_text(row['p'])}, {p_text(row['p_holm'])} corrected"
        more["over the ledger"] = f"{row['verdict_corrected']} ({adjusted})"
    return {
        "place": f"section {section}" if section[:1].isdigit() else section,
        "tested_on": row["kind"],
        "is_ours": row["kind"] == OURS,
        "style": STYLES.get(row["verdict"], "other"),
        "facts": {name: text for name, text in facts.items() if text not in ("", MISSING)},
        "more": more | {name: row[name] for name in ("source", "test", "rule")},
    }


def _number(row: Mapping[Any, Any], name: str = "") -> str:
    """Of the cell that decides, with its interval: the one with all noise, where it is known."""
    if math.isnan(row["low"]) and not math.isnan(row["own_low"]):
        text = value_text(row["value"], row["own_low"], row["own_high"], row["unit"], name)
        return f"{text[:-1]} without the noise between trainings)"
    return value_text(row["value"], row["low"], row["high"], row["unit"], name)


def _ours(row: Mapping[Any, Any]) -> str:
    """`+1.2 AP (+0.4 to +2.0), R-50, voc → non-voc, 3 seeds`: the cell that decides."""
    unit, seeds = row["unit"], row["seeds"]
    text = _number(row, "" if unit == COST else unit)  # its cell says of what
    count = f"{seeds} {'seed' if seeds == 1 else 'seeds'}" if seeds else ""
    return ", ".join(part for part in (text, row["cell"], count) if part)


def _cells(row: Mapping[Any, Any]) -> str:
    """`3 of 4 decide for it, 1 against`, where a claim has several."""
    text = f"{row['cells_for']} of {row['cells']} decide for it, {row['cells_against']} against"
    missing = row["cells"] - row["cells_run"]
    return f"{text}; {missing} {NOT_RUN}" if missing else text


def _cell_tables(one: Graded) -> list[Table]:
    """A line a cell, in each metric; columns that no cell fills are left out."""
    unit, computed = one.claim.evidence.unit, one.claim.evidence.kind == PAPERS
    tables = [_cell_table(one.cells, unit, "Computed" if computed else "Ours", one.speaks)]
    if one.second:
        speaks = replace(one, cells=one.second).speaks
        tables.append(_cell_table(one.second, "points", "Mask IoU in true boxes", speaks))
    return tables


def _cell_table(cells: Sequence[Estimate], unit: str, name: str, speaks: Sequence[str]) -> Table:
    rows = [
        {
            "Cell": cell.name,
            name: value_text(cell.value, cell.low, cell.high, unit),
            "With noise between trainings": _widened(cell),
            "Seeds": (str(cell.seeds) if cell.seeds else MISSING)
            + ("" if math.isnan(cell.sd) else f" ± {number(cell.sd, 2)}"),
            "p": number(cell.p, 4),
            "Paper": signed(cell.paper, 2),
        }
        for cell in cells
    ]
    table = pd.DataFrame(rows).assign(Speaks=speaks)
    return Table(table.loc[:, (table != MISSING).any()])


def _widened(cell: Estimate) -> str:
    """The interval with all noise; a dash where there is none to add."""
    if not cell.ran or cell.over in (NOTHING, RUNS):
        return MISSING
    whole = cell.whole()
    return "not known" if math.isnan(whole.low) else interval(whole.low, whole.high)


def claims_page(graded: Sequence[Graded], ledger: pd.DataFrame, scale: str) -> str:
    """`reports/<scale>/claims.md`. `ledger`: of `graded`."""
    ours = of_our_runs(ledger)
    return render(
        "claims.md.j2",
        lead=lead(ledger, f"at scale `{scale}`"),
        by_kind=by_kind(ledger),
        how=how(scale),
        overview=overview(ledger[ours]),
        arithmetic=overview(ledger[~ours]),
        rules=RULES,
        claims=list(zip(entries(ledger), map(_cell_tables, graded), strict=True)),
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
