"""Numbers of the ledger as text."""

import math

from study import format as markdown
from study.claims.sources import COUNTS, RANK


def value_text(value: float, low: float, high: float, unit: str, name: str = "") -> str:
    """`+1.20 AP (+0.40 to +2.00)`: a number with its interval; counts and ranks without a sign.

    unit: of `sources.Evidence`. name: how it is called in the text, nothing if empty. `low` equal
    to `high` is a number without uncertainty, NaN one without interval.
    """
    form = markdown.number if unit in COUNTS else markdown.signed
    digits = 0 if all(v == round(v) for v in (value, low) if not math.isnan(v)) else 2
    text, low_text, high_text = (form(v, digits) for v in (value, low, high))
    if name:
        text = f"{name} {text}" if unit == RANK else f"{text} {name}"
    if math.isnan(low):
        return f"{text} (no interval)"
    return text if low == high else f"{text} ({low_text} to {high_text})"
