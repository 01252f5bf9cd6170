"""The control, a baseline as deep as OPMask's mask head: how much of a gain is the prior's.

The paper compares OPMask, with seven mask convolutions and the prior, with a baseline of four and
none. Its gain is the sum of the control's over that baseline and OPMask's over the control.
"""

import math

import pandas as pd

from study import format as markdown
from study.analysis.comparison import BACKBONES, DIRECTIONS, interval


def sentences(contrasts: pd.DataFrame) -> list[str]:
    """The parts of each gain of which all three runs were made; `contrasts`: `contrast_table`."""
    rows = {(row["a"], row["b"]): row for row in contrasts.to_dict("records")}
    found = []
    for opmask, control in rows:
        if opmask.startswith("opmask-") and control.startswith("maskrcnn7-"):
            baseline = control.replace("maskrcnn7", "maskrcnn")
            parts = [rows.get(pair) for pair in ((opmask, control), (control, baseline))]
            if all(part and not math.isnan(part["low"]) for part in parts):
                found.append(_sentence(opmask, *parts))
    return found


def _sentence(opmask: str, prior: dict, depth: dict) -> str:
    _, backbone, split = opmask.split("-")
    where = DIRECTIONS.get(split, f"masks of `{split}`")
    return (
        f"{BACKBONES[backbone]}, {where}: the prior, at equal depth, gives {_value(prior)}; three "
        f"more mask convolutions without it give {_value(depth)}."
    )


def _value(row: dict) -> str:
    value = markdown.signed(row["difference"], 2)
    undecided = ", undecided" if row["low"] <= 0 <= row["high"] else ""
    return f"{value} AP ({interval(row['low'], row['high'])}{undecided})"
