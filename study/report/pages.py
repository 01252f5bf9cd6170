"""The report of a scale: `reports/<scale>/README.md`, and `index.html`, which has everything in one
file. Both are written from the same blocks, so that one does not say what the other leaves out.

To add a section, add its blocks to `_context`, and its place to both templates.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from study.report.blocks import Block
from study.report.embedded import embed
from study.report.inputs import Inputs
from study.report.render import render
from study.report.views import (
    ambiguity,
    claims,
    classes,
    contrasts,
    figures,
    made,
    regression,
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
    "table2": table2.body,
    "table3": table3.body,
}
# What stands below a figure, from a table.
_BELOW: dict[str, tuple[str, Callable[[pd.DataFrame], list[Block]]]] = {
    "figure3": ("regression", regression.tests),
    "ambiguity": ("ambiguity", ambiguity.findings),
    "schedule_search": ("schedule_search", schedule_search.blocks),
}


def readme(inputs: Inputs) -> str:
    """The Markdown."""
    return render("README.md.j2", **_context(inputs))


def html_page(inputs: Inputs) -> str:
    """The HTML, complete in itself."""
    return render(
        "page.html.j2",
        **_context(inputs),
        claims=claims.entries(inputs.claims) if inputs.has_paper_classes else [],
        explorer=classes.explorer_data(inputs.tables.get("per_class")),
        embed=embed,
        code=CODE,
    )


def _context(inputs: Inputs) -> dict[str, Any]:
    """What both templates show; what was not run is empty, and named in `left_out`."""
    papers = inputs.has_paper_classes
    tables = {
        name: view(frame)
        for name, view in _TABLES.items()
        if (frame := _ran(inputs, name)) is not None
    }
    shown = figures.figures(inputs)
    titles = WORDS["tables"] | {name: one["title"] for name, one in WORDS["figures"].items()}
    made_of = {*tables, *(one.name for one in shown), *figures.photographs(inputs)}
    counts = claims.counts(inputs.claims) if papers else {}
    controls = inputs.tables.get("contrasts")
    ran = [name for name in inputs.tables if _ran(inputs, name) is not None]
    there = {"index", *ran, *(["claims"] if counts else [])}
    pages = WORDS["pages" if papers else "own_pages"]
    return {
        "scale": inputs.scale,
        **summary.first_screen(inputs),
        "tables": {name: (titles[name], blocks) for name, blocks in tables.items()}
        if papers
        else {},
        "figures": shown if papers else [],
        "below": {
            figure: view(frame)
            for figure, (table, view) in _BELOW.items()
            if (frame := inputs.tables.get(table)) is not None
        },
        "kept_out": figures.kept_out(inputs) if papers else "",
        "left_out": [titles[n].partition(":")[0] for n in titles if papers and n not in made_of],
        "claims_lead": claims.lead(inputs.claims, "of the paper") if counts else "",
        "counts": counts,
        "styles": claims.STYLES,
        "how": claims.how(inputs.scale),
        "rules": claims.RULES,
        "contrasts": [] if controls is None else contrasts.blocks(controls),
        "made": made.blocks(inputs),
        "data": made.data(inputs.manifest, inputs.splits),
        "credits": inputs.credits.splitlines(),
        "pages": {path: what for path, what in pages.items() if Path(path).stem in there},
        "command": inputs.command,
    }


def _ran(inputs: Inputs, name: str) -> pd.DataFrame | None:
    """A table of which something was run, else None; `n` is the regression's number of classes."""
    frame = inputs.tables.get(name)
    if frame is None:
        return None
    counts = frame.filter(["seeds", "n"])
    return frame if counts.empty or counts.gt(0).any(axis=None) else None
