"""The page of a scale, `reports/<scale>/index.html`: everything in one file."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from study.analysis.comparison import comparisons
from study.report.blocks import Block
from study.report.embedded import EmbeddedImage, embed
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

# Of the published code, named once in the page; the only address in it.
CODE = "https://github.com/dbtimp/OPMask"
_ENLARGED = {True: 2.0, False: 1.5}  # on a screen, against print: pictures, charts
_TITLES = {
    "table1": "Table 1: novel classes",
    "table2": "Table 2: class activation maps as masks",
    "table3": "Table 3: schedules",
}


def html_page(inputs: Inputs) -> str:
    """The HTML, complete in itself. A section without data is empty and says "not run"."""
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
        tables={name: (title, _table(name, inputs)) for name, title in _TITLES.items()},
        figures=[_figure(one, inputs) for one in figures.figures(inputs)],
        contrasts=_made(inputs, "contrasts", contrasts.blocks),
        search=_made(inputs, "schedule_search", schedule_search.blocks),
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


def _table(name: str, inputs: Inputs) -> list[Block]:
    if name not in inputs.tables:
        return []
    frame = inputs.tables[name]
    if name == "table1":  # without the gains, which are in the summary
        return table1.metrics(frame)
    return (table2 if name == "table2" else table3).blocks(frame, inputs.scale)


def _made(inputs: Inputs, name: str, blocks: Callable[[pd.DataFrame], list[Block]]) -> list[Block]:
    return blocks(inputs.tables[name]) if name in inputs.tables else []


def _figure(
    one: figures.Figure, inputs: Inputs
) -> tuple[figures.Figure, EmbeddedImage | None, list[Block]]:
    """A figure, its picture, and the statistics beside it."""
    picture = embed(one.path, _ENLARGED[one.name in figures.PICTURES]) if one.path else None
    more = _made(inputs, "regression", regression.tests) if one.name == "figure3" else []
    return one, picture, more


def _compute(inputs: Inputs) -> list[Block]:
    if not inputs.trained:
        return []
    times = compute.times({"train": [one.provenance for one in inputs.trained]})
    return [*compute.blocks(inputs), *times]
