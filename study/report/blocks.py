"""What a page is made of, whatever it is written as: text, headings, lists, tables.

A view (`study.report.views`) decides what is shown and returns blocks; `markdown`, `latex` and the
HTML templates write them. Text may have `**strong**`, `*emphasis*`, `` `code` `` and
`[links](to/files)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from study.format import MISSING, interval


@dataclass(frozen=True)
class Heading:
    """Of a part of a page, one level below the page's own."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list, an item a sentence."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table for people.

    Args:
        frame: cells, shown as they are; None and NaN are a dash. Two levels of columns are two
            header rows.
        caption: what it shows; a page of HTML needs it.
        headers: leading columns that head their rows. Where they are all empty, the row belongs to
            the one above.
        left: leading columns that are text, flushed left; the others are numbers.
        kinds: of the rows, for their style: ours | paper | gap | quoted | difference …
        wrap: whether cells of numbers may take several lines.
    """

    frame: pd.DataFrame
    caption: str = ""
    headers: int = 1
    left: int = 1
    kinds: Sequence[str] = ()
    wrap: bool = False


Block = str | Heading | Bullets | Table


@dataclass(frozen=True)
class Whisker:
    """An interval with its estimate: text, and in HTML a drawing on the axis `low_end` to
    `high_end` as well."""

    estimate: float
    low: float
    high: float
    low_end: float
    high_end: float

    def __str__(self) -> str:
        return interval(self.low, self.high)

    def x(self, value: float) -> float:
        """Where `value` lies, 0 (left) to 100; what lies outside stands at the edge."""
        share = (value - self.low_end) / (self.high_end - self.low_end)
        return round(100 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Curve:
    """A loss curve: its last value as text, and in HTML a drawing as well.

    points: of an SVG polyline, within WIDTH × HEIGHT CSS pixels.
    """

    points: str
    last: str
    width: int = 84
    height: int = 30

    def __str__(self) -> str:
        return self.last


def whiskers(frame: pd.DataFrame, estimate: str) -> list[Whisker | str]:
    """The intervals `low` to `high` of the column `estimate`, drawn on one axis that has 0 on it;
    a dash where there is none."""
    known = frame[["low", "high"]].astype(float)
    with_zero = [0.0, *known.stack().dropna()]
    low_end, high_end = min(with_zero), max(with_zero)
    margin = 0.04 * (high_end - low_end) or 1.0
    ends = low_end - margin, high_end + margin
    values = zip(frame[estimate].astype(float), known["low"], known["high"], strict=True)
    return [
        Whisker(value, low, high, *ends) if low == low else MISSING for value, low, high in values
    ]
