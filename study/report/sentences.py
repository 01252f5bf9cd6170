"""Findings in words, whichever way they went: sentences that more than one page shows."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.contrasts import QUESTIONS
from study.format import interval, number, signed
from study.labels import BACKBONES, DIRECTIONS, NOT_RUN

_MEANINGS = {
    "shown": "above 0: the paper's gain is reproduced in sign",
    "undecided": "includes 0: the paper's gain is neither reproduced nor refuted",
    "reversed": "below 0: the paper's gain did **not** reproduce",
}


def headline(found: Sequence[Comparison], scale: str) -> str:
    """One sentence that sums up the comparisons of a scale."""
    count = {verdict: 0 for verdict in ("shown", "undecided", "reversed", NOT_RUN)}
    for comparison in found:
        count[comparison.verdict] += 1
    ran = len(found) - count[NOT_RUN]
    if not ran:
        return f"At scale `{scale}` none of the {len(found)} comparisons of Table 1 was run."
    text = (
        f"At scale `{scale}` OPMask is ahead of its Mask R-CNN baseline in mask AP of novel "
        f"classes, with a 95 % interval above 0, in {count['shown']} of {ran} comparisons"
    )
    others = {
        "undecided": "undecided (the interval includes 0)",
        "reversed": "the other way round (the baseline is ahead)",
        NOT_RUN: "not run",
    }
    text += "".join(f"; {count[key]} {words}" for key, words in others.items() if count[key])
    return f"{text}."


def gain(one: Comparison) -> str:
    """One comparison of Table 1 with its numbers."""
    if one.verdict == NOT_RUN:
        return f"{one.name}: {NOT_RUN}."
    paper = f" (paper: {signed(one.paper_gain)})"
    if math.isnan(one.paper_gain):
        paper = " (the paper has no such backbone)"
    verb = "loses" if one.gain < 0 else "gains"
    return (
        f"{one.name}: OPMask {verb} {abs(one.gain):.2f} AP against the baseline "
        f"({number(one.baseline, 2)} → {number(one.opmask, 2)}); 95 % "
        f"interval {interval(one.low, one.high)}, {_MEANINGS[one.verdict]}{paper}."
    )


def control(contrasts: pd.DataFrame) -> list[str]:
    """How much of a gain is the prior's, where all three runs were made. OPMask's gain over a
    baseline of four mask convolutions is the control's (seven, no prior) over that baseline plus
    OPMask's over the control. `contrasts`: of `contrasts.contrast_table`."""
    rows = {(row["a"], row["b"]): row for row in contrasts.to_dict("records")}
    found = []
    for opmask, other in rows:
        if opmask.startswith("opmask-") and other.startswith("maskrcnn7-"):
            baseline = other.replace("maskrcnn7", "maskrcnn")
            prior, depth = rows[opmask, other], rows.get((other, baseline))
            if depth and not math.isnan(prior["low"]) and not math.isnan(depth["low"]):
                _, backbone, split = opmask.split("-")
                where = DIRECTIONS.get(split, f"masks of `{split}`")
                found.append(
                    f"{BACKBONES[backbone]}, {where}: the prior, at equal depth, gives "
                    f"{_difference(prior)}; three more mask convolutions without it give "
                    f"{_difference(depth)}."
                )
    return found


def _difference(row: dict[str, Any]) -> str:
    undecided = ", undecided" if row["low"] <= 0 <= row["high"] else ""
    return f"{signed(row['difference'], 2)} AP ({interval(row['low'], row['high'])}{undecided})"


def further(contrasts: pd.DataFrame) -> list[str]:
    """OPMask's gain on splits and with backbones that the paper does not have; `contrasts`: rows
    of `further.of_further`."""
    gains = contrasts[contrasts["claim"] == QUESTIONS["gain"][0]]
    return [_further(row) for row in gains.to_dict("records")]


def _further(row: dict[str, Any]) -> str:
    _, backbone, split = row["a"].split("-")
    where = f"{backbone}, masks of `{split}`"
    if math.isnan(row["difference"]):
        return f"{where}: {NOT_RUN}."
    verb = "loses" if row["difference"] < 0 else "gains"
    text = (
        f"{where}: OPMask {verb} {abs(row['difference']):.2f} AP against the baseline on "
        f"{row['tested']} {row['classes']} classes ({number(row['value_b'], 2)} → "
        f"{number(row['value_a'], 2)})"
    )
    if math.isnan(row["low"]):
        return f"{text}; too few images for an interval."
    includes = row["low"] <= 0 <= row["high"]
    verdict = "which includes 0: undecided" if includes else "which excludes 0"
    return f"{text}; 95 % interval {interval(row['low'], row['high'])}, {verdict}."
