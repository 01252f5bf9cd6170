"""The page of a scale, `reports/<scale>/index.html`: everything in one file."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from study.analysis.comparison import comparisons
from study.report.blocks import Block
from study.report.embedded import embed
from study.report.inputs import Inputs
from study.report.render import render
from study.report.views import (
    claims,
    classes,
    compute,
    contrasts,
    figures,
    regression,
    runs,
    schedule_search,
    summary,
    table1,
    table2,
    table3,
)
from study.report.views.rows import caveats
from study.report.words import WORDS

# Of the published code, named once in the page; the only address in it.
CODE = "https://github.com/dbtimp/OPMask"
_ENLARGED = {True: 2.0, False: 1.5}  # on a screen, against print: pictures, charts
# What a table is shown as, of its frame and the scale.
_VIEWS: dict[str, Callable[[pd.DataFrame, str], list[Block]]] = {
    "table1": lambda frame, _: table1.metrics(frame),  # the gains are in the summary
    "table2": table2.blocks,
    "table3": table3.blocks,
    "contrasts": lambda frame, _: contrasts.blocks(frame),
    "schedule_search": lambda frame, _: schedule_search.blocks(frame),
    "regression": lambda frame, _: regression.tests(frame),
}


def html_page(inputs: Inputs) -> str:
    """The HTML, complete in itself. A section without data is empty and says "not run"."""
    made = {
        name: view(inputs.tables[name], inputs.scale) if name in inputs.tables else []
        for name, view in _VIEWS.items()
    }
    return render(
        "page.html.j2",
        scale=inputs.scale,
        about=summary.about(inputs),
        code=CODE,
        **_summary(inputs),
        how=claims.how(inputs.scale),
        rules=claims.RULES,
        counts=claims.counts(inputs.claims),
        styles=claims.STYLES,
        claims=claims.entries(inputs.claims),
        tables={name: (title, made[name]) for name, title in WORDS["tables"].items()},
        figures=[
            (
                one,
                embed(one.path, _ENLARGED[one.name in figures.PICTURES]) if one.path else None,
                made["regression"] if one.name == "figure3" else [],
            )
            for one in figures.figures(inputs)
        ],
        contrasts=made["contrasts"],
        search=made["schedule_search"],
        explorer=classes.explorer_data(inputs.tables.get("per_class")),
        losses=runs.LOSSES,
        runs=runs.run_lines(inputs.trained),
        curve_size=(runs.WIDTH, runs.HEIGHT),
        compute=_compute(inputs),
    )


def _summary(inputs: Inputs) -> dict[str, Any]:
    """The result in one sentence, then the gains and what else was found."""
    if "table1" not in inputs.tables:
        return {"lead": "", "summary": [], "seeds": 0}
    frame, lead = inputs.tables["table1"], summary.lead(inputs)
    if not inputs.has_paper_classes:
        return {"lead": lead, "summary": summary.findings(inputs), "seeds": 0}
    seeds = [one.seeds for one in comparisons(frame)]
    blocks = [table1.gains(frame), *summary.findings(inputs), caveats(inputs.scale, seeds)]
    return {"lead": lead, "summary": blocks, "seeds": max(seeds, default=0)}


def _compute(inputs: Inputs) -> list[Block]:
    if not inputs.trained:
        return []
    times = compute.times({"train": [one.provenance for one in inputs.trained]})
    return [*compute.blocks(inputs), *times]
