"""Blocks into files: the templates beside this module, which see blocks and no data frames."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study import labels
from study.format import MISSING, interval, named, number, p_cell, p_text, signed, spread
from study.report.blocks import Block
from study.report.html import body_rows, head_rows, inline
from study.report.markdown import markdown, text
from study.report.words import COLUMNS, WORDS


def render(template: str, **context: Any) -> str:
    """One of `templates/` filled in; what goes into HTML is escaped."""
    return _environment(template.partition(".")[2]).get_template(template).render(context)


def say(sentence: str, *values: Any) -> str:
    """A macro of `templates/sentences.md.j2`, on one line."""
    sentences = _environment("md.j2").get_template("sentences.md.j2").module
    return " ".join(str(getattr(sentences, sentence)(*values)).split())


def lay_out(table: str, found: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """A line for people for each of `found`, with the columns that `columns.yaml` has for `table`;
    an expression sees the keys of its row."""
    lines = [
        {name: _cell(source)(**one) for name, source in COLUMNS[table].items()} for one in found
    ]
    return pd.DataFrame(lines)


@functools.cache
def _cell(source: str) -> Callable[..., Any]:
    return _environment("md.j2").compile_expression(source, undefined_to_none=False)


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
    functions = (inline, head_rows, body_rows, markdown, text, number, signed, p_text, p_cell)
    environment.filters |= {function.__name__: function for function in functions}
    environment.globals |= vars(labels) | {"interval": interval, "spread": spread, "named": named}
    environment.globals |= {"MISSING": MISSING, "WORDS": WORDS, "nan": math.nan}
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
