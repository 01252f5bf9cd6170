"""Table 3 (section 4.5): schedules, box AP beside mask AP."""

import pandas as pd

from study.labels import BACKBONES
from study.report.blocks import Block, Bullets, Table
from study.report.latex import latex
from study.report.views.rows import caveats, gain_table, number_table, tally
from study.report.words import WORDS
from study.tables.table3 import COLUMNS, SCHEDULE


def blocks(frame: pd.DataFrame, scale: str) -> list[Block]:
    """The page. `frame` is `table3.csv`, of `tables.table3`."""
    return [caveats(scale, frame["seeds"].tolist()), *body(frame)]


def body(frame: pd.DataFrame) -> list[Block]:
    """The page without the caveats, which a page around it has already."""
    gaps = frame[frame["minus"] != ""]
    pairs = gaps.groupby(["minus", "task", "classes"], sort=False)
    return [
        WORDS["table3"],
        Bullets(
            [f"{SCHEDULE} − {o}, {COLUMNS[t, c]}: {tally(rows)}." for (o, t, c), rows in pairs]
        ),
        gain_table(
            gaps,
            ["backbone", "direction", "minus"],
            lambda backbone, direction, minus: {
                "Backbone": BACKBONES[backbone],
                "Direction": direction,
                "Schedules": f"{SCHEDULE} − {minus}",
            },
            lambda row: COLUMNS[row["task"], row["classes"]],
        ),
        numbers(frame),
        WORDS["box_ap_of_table3"],
    ]


def numbers(frame: pd.DataFrame) -> Table:
    """The paper's rows and columns."""
    return number_table(
        frame[frame["minus"] == ""],
        ["backbone", "schedule"],
        lambda backbone, schedule: {"Backbone": BACKBONES[backbone], "Schedule": schedule},
        lambda row: (row["direction"], COLUMNS[row["task"], row["classes"]]),
        "OPMask by training schedule: box and mask AP, percent",
    )


def tex(frame: pd.DataFrame, scale: str) -> str:
    """Table 3 as LaTeX."""
    caption = f"OPMask by training schedule: box and mask AP, percent, scale {scale}."
    return latex(numbers(frame), caption, "tab:schedules")
