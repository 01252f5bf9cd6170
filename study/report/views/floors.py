"""Methods whose masks are no better than a shape that looks at no picture."""

import pandas as pd

from study.labels import BACKBONES, DIRECTIONS, MODELS
from study.report.render import say

# Of `oracle.csv`: a row a method or floor, backbone and supervised set.
METHOD, BACKBONE, SUPERVISED, IOU = "method", "backbone", "supervised", "novel_iou"
FLOORS = {"box": "the filled box", "ellipse": "an ellipse", "mean_mask": "the mean mask"}


def below(oracle: pd.DataFrame) -> list[str]:
    """A sentence for each method below the best floor of its backbone and supervised set."""
    found = []
    for (backbone, supervised), rows in oracle.groupby([BACKBONE, SUPERVISED], sort=False):
        iou = rows.set_index(METHOD)[IOU].astype(float).dropna()
        floors, methods = iou[iou.index.isin(FLOORS)], iou[~iou.index.isin(FLOORS)]
        if len(floors):
            best = str(floors.idxmax())
            place = f"{BACKBONES[backbone]}, {DIRECTIONS.get(supervised, supervised)}"
            for method, value in methods[methods < floors[best]].items():
                name = MODELS.get(method, method)
                found.append(say("below_floor", place, name, value, FLOORS[best], floors[best]))
    return found
