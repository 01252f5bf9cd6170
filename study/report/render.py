"""Blocks into files: the templates beside this module, which see blocks and no data frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.report.blocks import Block
from study.report.html import body_rows, head_rows, inline, kind_of
from study.report.markdown import markdown, text


def render(template: str, **context: Any) -> str:
    """One of `templates/` filled in; what goes into HTML is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=template.endswith(".md.j2"),
    )
    environment.filters |= {
        "inline": inline,
        "head_rows": head_rows,
        "body_rows": body_rows,
        "kind_of": kind_of,
        "markdown": markdown,
        "text": text,
    }
    return environment.get_template(template).render(context)


def page(title: str, blocks: Sequence[Block]) -> str:
    """The Markdown of a page of its own."""
    return render("tables.md.j2", title=title, blocks=blocks)


def write_page(path: Path, title: str, blocks: Sequence[Block]) -> None:
    """`page` as a file."""
    path.write_text(page(title, blocks), encoding="utf-8")


def write_table(
    path: Path, table: pd.DataFrame, title: str, blocks: Sequence[Block], tex: str = ""
) -> None:
    """A table as csv, at `path`; beside it its page and, where it has one, its LaTeX."""
    table.to_csv(path, index=False)
    write_page(path.with_suffix(".md"), title, blocks)
    if tex:
        path.with_suffix(".tex").write_text(tex, encoding="utf-8")
