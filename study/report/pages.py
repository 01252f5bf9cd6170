"""The report of a scale: `reports/<scale>/README.md`, and `index.html`, which has everything in one
file. Both are written from the same blocks, so that one does not say what the other leaves out.

To add a section, add its blocks to `_context`, and its place to both templates.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from study.analysis.controls import with_controls
from study.report.blocks import Block
from study.report.embedded import embed
from study.report.inputs import Inputs
from study.report.render import render
from study.report.views import (
    ambiguity,
    claims,
    classes,
    contrasts,
    controls,
    figures,
    made,
    oracle,
    regression,
    rivals,
    schedule_search,
    summary,
    table1,
    table2,
    table3,
)
from study.report.words import WORDS

# Of the published code, named once in the page; the only address in it.
CODE = "https://github.com/dbtimp/OPMask"
_TABLES: dict[str, Callable[[pd.DataFrame], list[Block]]] = {
    "table1": table1.body,
    "oracle": oracle.body,
    "rivals": rivals.body,
    "table2": table2.body,
    "table3": table3.body,
}
# What stands below a figure, from a table.
_BELOW: dict[str, tuple[str, Callable[[pd.DataFrame], list[Block]]]] = {
    "figure3": ("regression", regression.tests),
    "ambiguity": ("ambiguity", ambiguity.findings),
    "schedule_search": ("schedule_search", schedule_search.blocks),
    "controls": ("controls", controls.paragraphs),
}


def readme(inputs: Inputs) -> str:
    """The Markdown."""
    return render("README.md.j2", **_context(inputs, _shown(inputs)))


def html_page(inputs: Inputs) -> str:
    """The HTML, complete in itself."""
    shown = _shown(inputs)
    return render(
        "page.html.j2",
        **_context(inputs, shown),
        claims=claims.entries(shown.claims),
        explorer=classes.explorer_data(shown.tables.get("per_class")),
        embed=embed,
        code=CODE,
    )


def _shown(inputs: Inputs) -> Inputs:
    """Without the tables of which nothing was run, and without what does not apply to a data set
    that has not the paper's classes."""
    counts = {name: frame.filter(["seeds", "n"]) for name, frame in inputs.tables.items()}
    ran = {name for name, one in counts.items() if one.columns.empty or one.gt(0).any(axis=None)}
    if inputs.has_paper_classes:
        return replace(inputs, tables={n: f for n, f in inputs.tables.items() if n in ran})
    own = {
        n: f for n, f in inputs.tables.items() if n in ran & {"contrasts", "oracle", "per_class"}
    }
    return replace(inputs, tables=own, figure_data={}, pictures={}, claims=None)


def _context(inputs: Inputs, shown: Inputs) -> dict[str, Any]:
    """What both templates show; what was not run is empty, and named in `left_out`."""
    papers, drawn = inputs.has_paper_classes, figures.figures(shown)
    tables = {
        name: view(shown.tables[name]) for name, view in _TABLES.items() if name in shown.tables
    }
    if {"rivals", "combinations"} <= shown.tables.keys():
        tables["rivals"] = rivals.body(shown.tables["rivals"], shown.tables["combinations"])
    titles = WORDS["tables"] | {name: one["title"] for name, one in WORDS["figures"].items()}
    there = {*tables, *(one.name for one in drawn), *figures.photographs(shown)}
    counts = claims.counts(shown.claims)
    linked = {"index", *shown.tables, *(["claims"] if counts else [])}
    pages = WORDS["pages" if papers else "own_pages"]
    below = dict(shown.tables)
    if "contrasts" in below:
        below["controls"], _ = with_controls(below["contrasts"], inputs.repeated)
    return {
        "scale": inputs.scale,
        **summary.first_screen(inputs),
        "tables": {name: (titles[name], blocks) for name, blocks in tables.items()},
        "figures": drawn,
        "below": {
            figure: view(below[table])
            for figure, (table, view) in _BELOW.items()
            if figure in there and table in below
        },
        "kept_out": figures.kept_out(shown),
        "left_out": [titles[n].partition(":")[0] for n in titles if papers and n not in there],
        "claims_lead": claims.lead(shown.claims, "of the paper") if counts else "",
        "counts": counts,
        "styles": claims.STYLES,
        "how": claims.how(inputs.scale),
        "rules": claims.RULES,
        "contrasts": contrasts.blocks(shown.tables["contrasts"])
        if "contrasts" in shown.tables
        else [],
        "made": made.blocks(inputs),
        "data": made.data(inputs.manifest, inputs.splits),
        "credits": inputs.credits.splitlines(),
        "pages": {path: what for path, what in pages.items() if Path(path).stem in linked},
        "command": inputs.command,
    }
