"""What the HTML templates need beside their own language: marks in text, and spans of cells."""

import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from study.format import MISSING
from study.report.blocks import Bullets, Heading, Table

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


def kind_of(block: object) -> str:
    """table | bullets | heading | text, for a template that has no isinstance."""
    kinds = {Table: "table", Bullets: "bullets", Heading: "heading"}
    return next((kind for of, kind in kinds.items() if isinstance(block, of)), "text")


@dataclass(frozen=True)
class Cell:
    """One cell: `value` is a str or a `blocks.Whisker`."""

    value: Any
    rows: int = 1
    columns: int = 1
    header: bool = False
    left: bool = False


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
                    left=column < table.left,
                )
                for column, value in enumerate(line)
                if n in ends or column >= table.headers
            ],
        )
        for n, (line, kind) in enumerate(zip(values, kinds, strict=True))
    ]


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
    names = [Cell(name, header=True, left=n < table.left) for n, (_, name) in enumerate(pairs)]
    if not any(group for group, _ in pairs):
        return [names]
    groups: list[list[Any]] = []  # label, columns
    for label, _ in pairs:
        if groups and label and groups[-1][0] == label:
            groups[-1][1] += 1
        else:
            groups.append([label, 1])
    return [[Cell(label, columns=count, header=True) for label, count in groups], names]
