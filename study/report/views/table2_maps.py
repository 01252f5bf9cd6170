"""What Table 2 leaves open, beside it: refined box, threshold, floor."""

import pandas as pd

from study.report.blocks import Block, Bullets, Table
from study.report.render import lay_out
from study.report.views.rows import tally
from study.report.words import WORDS
from study.tables.table2 import SUBSETS
from study.tables.table2_rows import METHODS

_MEASURES = {
    "covered": "share of the object that the map covers",
    "iou_best": "IoU at the best threshold",
}


def blocks(frame: pd.DataFrame) -> list[Block]:
    """Of `table2_maps.csv`, of `tables.table2_maps`; of all classes. Nothing if nothing was run."""
    shown = frame[frame["classes"] == "all"]
    gaps, own = shown[shown["minus_method"] != ""], shown[shown["minus_method"] == ""]
    if own.empty:
        return []
    gaps = gaps[gaps["seeds"] > 0]
    return [
        WORDS["table2_maps"],
        Bullets(
            [
                f"{METHODS[a]} − {METHODS[b]}, {_MEASURES[measure]}: {tally(rows)}."
                for (a, b, measure), rows in gaps.groupby(
                    ["method", "minus_method", "measure"], sort=False
                )
                if measure in _MEASURES
            ]
        ),
        table(own),
    ]


def table(own: pd.DataFrame) -> Table:
    """A line a configuration."""
    found = [
        {
            "method": METHODS[method],
            "supervised": SUBSETS[supervised],
            "of": {row["measure"]: row for row in rows.to_dict("records")},
        }
        for (method, supervised), rows in own.groupby(["method", "supervised"], sort=False)
    ]
    return Table(lay_out("table2_maps", found), headers=2, left=2)
