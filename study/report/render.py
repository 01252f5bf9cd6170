"""Blocks into files: the templates beside this module, which see blocks and no data frames."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.format import interval, number, p_text, signed
from study.report.blocks import Block
from study.report.html import body_rows, head_rows, inline
from study.report.markdown import markdown, text


def render(template: str, **context: Any) -> str:
    """One of `templates/` filled in; what goes into HTML is escaped."""
    return _environment(template.partition(".")[2]).get_template(template).render(context)


def say(sentence: str, *values: Any) -> str:
    """A macro of `templates/sentences.md.j2`, on one line."""
    sentences = _environment("md.j2").get_template("sentences.md.j2").module
    return " ".join(str(getattr(sentences, sentence)(*values)).split())


@functools.cache
def _environment(kind: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=kind == "html.j2",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=kind == "md.j2",
    )
    functions = (inline, head_rows, body_rows, markdown, text, number, signed, p_text)
    environment.filters |= {function.__name__: function for function in functions}
    environment.globals["interval"] = interval
    environment.tests["nan"] = math.isnan
    return environment


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
