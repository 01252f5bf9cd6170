"""Methods whose masks are no better than a shape that looks at no picture."""

import pandas as pd

from study.labels import BACKBONES, MODELS
from study.report.render import say

FLOORS = {"box": "the filled box", "ellipse": "an ellipse", "mean mask": "the mean mask"}


def below(oracle: pd.DataFrame) -> list[str]:
    """A sentence for each run of `oracle_table` that is below the best floor on novel classes, with
    its whole interval over images."""
    rows = oracle[oracle["classes"].eq("novel") & oracle["side"].eq("below")]
    return [
        say(
            "below_floor",
            f"{BACKBONES.get(row['backbone'], row['backbone'])}, {row['direction']}",
            MODELS.get(row["method"], row["method"]),
            row["iou"],
            FLOORS[row["floor"]],
            row["iou"] - row["above_floor"],
        )
        for row in rows.to_dict("records")
    ]
