"""What the HTML templates need beside their own language: marks in text, and spans of cells."""

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from study.format import MISSING
from study.report.blocks import Table

FIXED = "\N{NO-BREAK SPACE}"


def inline(text: object) -> Markup:
    """Escaped text in which `**a**` is strong, `*a*` emphasised, `` `a` `` code and `[a](b)` a
    link to a file or place of this report.

    Nothing else of Markdown is understood, and no HTML in `text` survives.
    """
    html = re.sub(r"(?<=\d) (?=%)", FIXED, str(escape(text)))
    html = re.sub(r"\[([^\]\[]+)\]\(([\w.#-][\w./#-]*)\)", r'<a href="\2">\1</a>', html)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    html = re.sub(r"(?<![\w*])\*(?!\s)([^*]+)(?<!\s)\*(?![\w*])", r"<em>\1</em>", html)
    return Markup(html)


@dataclass(frozen=True)
class Cell:
    """One cell: `value` is a str, a `blocks.Whisker` or a `blocks.Curve`."""

    value: Any
    rows: int = 1
    columns: int = 1
    header: bool = False
    style: str = ""  # left: text; few: a count in place of a number


def body_rows(table: Table) -> list[tuple[str, list[Cell]]]:
    """Kind and cells of each row: a heading stands once for all the rows that it heads."""
    values = table.frame.to_numpy(dtype=object).tolist()
    kinds = list(table.kinds) or [""] * len(values)
    starts = [n for n, line in enumerate(values) if n == 0 or any(line[: table.headers])]
    ends = dict(zip(starts, [*starts[1:], len(values)], strict=True))
    return [
        (
            kind,
            [
                Cell(
                    _shown(value, table.wrap and column >= table.left),
                    rows=ends[n] - n if column < table.headers else 1,
                    header=column < table.headers,
                    style=_style(value, column < table.left),
                )
                for column, value in enumerate(line)
                if n in ends or column >= table.headers
            ],
        )
        for n, (line, kind) in enumerate(zip(values, kinds, strict=True))
    ]


def _style(value: Any, left: bool) -> str:
    return "left" if left else "few" * str(value).startswith("n = ")


def _shown(value: Any, wrap: bool) -> Any:
    if value is None or value != value:  # NaN is not itself
        return MISSING
    if wrap and isinstance(value, str):  # only the paper's number may be on a new line
        return value.replace(" ", FIXED).replace(f",{FIXED}", ", ")
    return value


def head_rows(table: Table) -> list[list[Cell]]:
    """One row of column names, or two."""
    columns = list(table.frame.columns)
    pairs = [column if isinstance(column, tuple) else ("", column) for column in columns]
    names = [
        Cell(name, header=True, style="left" * (n < table.left))
        for n, (_, name) in enumerate(pairs)
    ]
    if not any(group for group, _ in pairs):
        return [names]
    # what has no group stands by itself
    runs = groupby(enumerate(pairs), key=lambda one: one[1][0] or one[0])
    labels = [[label for _, (label, _) in run] for _, run in runs]
    return [[Cell(one[0], columns=len(one), header=True) for one in labels], names]
