"""Numbers, text and tables as GitHub-flavoured Markdown."""

import math

import pandas as pd

MINUS = "\N{MINUS SIGN}"  # as wide as a plus, and never the start of a list
MISSING = "–"


def escape(text: object) -> str:
    """Text that is safe in a table cell: no cell border, no line break, no HTML tag."""
    line = " ".join(str(text).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def number(value: float, digits: int = 1) -> str:
    """`12.3`, or a dash for NaN (nothing to measure)."""
    if math.isnan(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float, digits: int = 1) -> str:
    """`+1.2` or `−1.2`, zero without a sign, a dash for NaN."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def duration(seconds: float) -> str:
    """Wall time for people: `42 s`, `13 min`, `5.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def table(frame: pd.DataFrame, left: int = 1) -> str:
    """`frame` as a pipe table; its cells are escaped, and all but the first `left` columns
    are flushed right, as numbers are."""
    cells = frame.astype(object).map(escape)
    cells.columns = [escape(name) for name in cells.columns]
    align = ["left"] * left + ["right"] * (cells.shape[1] - left)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=align)


def interval(low: float, high: float) -> str:
    """`+1.20 to +3.40`."""
    return f"{signed(low, 2)} to {signed(high, 2)}"
