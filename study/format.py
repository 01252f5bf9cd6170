"""Numbers as text: the one place that rounds for people."""

import math
from collections.abc import Mapping
from typing import Any

MINUS = "\N{MINUS SIGN}"  # as wide as a plus, and never the start of a list
MISSING = "–"


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


def interval(low: float, high: float) -> str:
    """`+1.20 to +3.40`, a dash where there is none (`low` is NaN)."""
    return MISSING if math.isnan(low) else f"{signed(low, 2)} to {signed(high, 2)}"


def spread(sd: float, digits: int = 2) -> str:
    """` ± 0.12` over seeds, nothing for NaN: there is one."""
    return "" if math.isnan(sd) else f" ± {number(sd, digits)}"


def named(row: Mapping[str, Any]) -> str:
    """`0.12 (cat)`: a largest value and its class; ∞ if nothing is left to measure by without."""
    if math.isnan(row["value"]):
        return MISSING
    value = "∞" if math.isinf(row["value"]) else number(row["value"], 2)
    return f"{value} ({row['category']})"


def duration(seconds: float) -> str:
    """Wall time for people: `42 s`, `13 min`, `5.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def p_text(p: float) -> str:
    """`= .003`, or `< .001`."""
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")


def p_cell(p: float) -> str:
    """`.003`, `< .001`, or a dash for NaN."""
    return MISSING if math.isnan(p) else p_text(p).removeprefix("= ")
