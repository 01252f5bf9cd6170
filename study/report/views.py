"""Tables as the templates draw them: cells that span rows, intervals as small drawings."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study import format as markdown
from study.format import interval


@dataclass(frozen=True)
class Whisker:
    """An estimate with its interval, drawn on the axis `low_end` to `high_end` beside its text."""

    text: str
    estimate: float
    low: float
    high: float
    low_end: float
    high_end: float

    def x(self, value: float) -> float:
        """Where `value` lies, 0 (left) to 100; what lies outside stands at the edge."""
        share = (value - self.low_end) / (self.high_end - self.low_end)
        return round(100 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Cell:
    """One cell: `value` is a str, a `Whisker`, or whatever has `__html__`."""

    value: Any
    rows: int = 1
    columns: int = 1
    header: bool = False
    left: bool = False


@dataclass(frozen=True)
class Row:
    """`kind` becomes the row's class: ours | paper | quoted | difference | …"""

    cells: Sequence[Cell]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its header rows; `wrap`: its numbers may take several lines."""

    caption: str
    head: Sequence[Sequence[Cell]]
    rows: Sequence[Row]
    wrap: bool = False


def intervals(frame: pd.DataFrame, estimate: str) -> list[Whisker | str]:
    """The intervals `low` to `high` of the column `estimate`, drawn on one axis that has 0 on it;
    a dash where there is none."""
    known = frame[["low", "high"]].astype(float)
    with_zero = [0.0, *known.stack().dropna()]
    low_end, high_end = min(with_zero), max(with_zero)
    margin = 0.04 * (high_end - low_end) or 1.0
    ends = low_end - margin, high_end + margin
    values = zip(frame[estimate].astype(float), known["low"], known["high"], strict=True)
    return [
        Whisker(interval(low, high), value, low, high, *ends) if low == low else markdown.MISSING
        for value, low, high in values
    ]


def table(
    frame: pd.DataFrame,
    caption: str,
    *,
    headers: int = 1,
    left: int = 1,
    kinds: Sequence[str] = (),
    wrap: bool = False,
) -> Table:
    """`frame` as a table.

    Args:
        frame: cells as in `Cell`; two levels of columns become two header rows.
        caption: what the table shows.
        headers: leading columns that head their rows. Where they are all empty, the row belongs to
            the one above, whose headers then span both.
        left: leading columns that are text, flushed left.
        kinds: of the rows, if any have one.
        wrap: whether cells of numbers may take several lines.
    """
    rows = []
    values = frame.to_numpy(dtype=object).tolist()
    kinds = list(kinds) or [""] * len(values)
    for index, (line, kind) in enumerate(zip(values, kinds, strict=True)):
        more = _continued(values[index + 1 :], headers)
        goes_on = bool(index) and headers > 0 and not any(line[:headers])
        cells = [
            Cell(_shown(value), 1 + more if column < headers else 1, 1, column < headers,
                 column < left)
            for column, value in enumerate(line)
            if not (goes_on and column < headers)
        ]  # fmt: skip
        rows.append(Row(cells, kind))
    return Table(caption, _head(list(frame.columns), left), rows, wrap)


def _shown(value: object) -> object:
    return markdown.MISSING if value is None or value != value else value  # NaN is not itself


def _continued(following: Sequence[Sequence], headers: int) -> int:
    """How many rows from the first of `following` on belong to the row before it."""
    count = 0
    while headers and count < len(following) and not any(following[count][:headers]):
        count += 1
    return count


def _head(columns: Sequence[Hashable], left: int) -> list[list[Cell]]:
    if not isinstance(columns[0], tuple):
        return [[Cell(name, header=True, left=n < left) for n, name in enumerate(columns)]]
    groups: list[list] = []  # label, columns
    for label, _ in columns:
        if groups and label and groups[-1][0] == label:
            groups[-1][1] += 1
        else:
            groups.append([label, 1])
    top = [Cell(label, columns=count, header=True) for label, count in groups]
    names = [Cell(name, header=True, left=n < left) for n, (_, name) in enumerate(columns)]
    return [top, names]
