"""Writes the page: the sections' content into the templates. All text is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study import format as markdown
from study.analysis.comparison import comparisons
from study.report import curves, ledger, other_tables, paper_tables
from study.report.explorer import explorer_data
from study.report.facts import facts, seconds
from study.report.figures import figures
from study.report.inputs import Inputs
from study.report.overview import OWN_SCALE, SCALES
from study.report.sentences import gain, headline
from study.report.text import inline

# Of the published code, named once in the page; the only address in it.
CODE = "https://github.com/dbtimp/OPMask"
_TABLES = {
    "table1": ("Table 1: novel classes", paper_tables.table1),
    "table2": ("Table 2: class activation maps as masks", paper_tables.table2),
    "table3": ("Table 3: schedules", paper_tables.table3),
}


def render(inputs: Inputs) -> str:
    """The HTML of `reports/<scale>/index.html`, complete in itself."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    return environment.get_template("page.html").render(context(inputs))


def context(inputs: Inputs) -> dict[str, Any]:
    """What the templates show. A section without data is empty and says "not run"."""
    lines = curves.run_lines(inputs.trained)
    return {
        "scale": inputs.scale,
        "schedule": inputs.schedule,
        "about": SCALES.get(inputs.scale, OWN_SCALE),
        "code": CODE,
        **_summary(inputs),
        "counts": ledger.counts(inputs.claims),
        "kinds": ledger.KINDS,
        "claims": ledger.entries(inputs.claims),
        "tables": {
            name: (title, make(inputs.tables[name]) if name in inputs.tables else [])
            for name, (title, make) in _TABLES.items()
        },
        "figures": figures(inputs),
        "contrasts": _made(inputs, "contrasts", other_tables.contrasts),
        "search": _made(inputs, "schedule_search", other_tables.search),
        "explorer": explorer_data(inputs.tables.get("per_class")),
        "losses": curves.LOSSES,
        "runs": lines,
        "curve_size": (curves.WIDTH, curves.HEIGHT),
        "compute": _compute(inputs),
    }


def _made(inputs: Inputs, name: str, make: Any) -> list:
    return make(inputs.tables[name]) if name in inputs.tables else []


def _summary(inputs: Inputs) -> dict[str, Any]:
    """The headline and the gains, "not run" without Table 1."""
    if "table1" not in inputs.tables:
        return {"headline": "", "findings": [], "gains": None, "seeds": 0}
    found = comparisons(inputs.tables["table1"])
    return {
        "headline": headline(found, inputs.scale),
        "findings": [gain(one) for one in found],
        "gains": paper_tables.headline_gains(found),
        "seeds": max((one.seeds for one in found), default=0),
    }


def _compute(inputs: Inputs) -> dict[str, str]:
    entries = [one.provenance for one in inputs.trained]
    if not entries:
        return {}
    times = [value for entry in entries if (value := seconds(entry)) is not None]
    found = {"Training, wall time, sum": markdown.duration(sum(times))} if times else {}
    return found | facts(entries)
