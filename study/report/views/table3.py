"""Table 3 (section 4.5): schedules, box AP beside mask AP."""

import pandas as pd

from study.labels import BACKBONES
from study.report.blocks import Block, Bullets, Table
from study.report.latex import latex
from study.report.views.rows import WHOSE, caveats, gain_table, line_table, lines, tally
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
            [
                f"{SCHEDULE} − {other}, {COLUMNS[task, classes]}: {tally(rows)}."
                for (other, task, classes), rows in pairs
            ]
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
    found = []
    plain = frame[frame["minus"] == ""]
    for (backbone, schedule), rows in plain.groupby(["backbone", "schedule"], sort=False):
        head = {("", "Backbone"): BACKBONES[backbone], ("", "Schedule"): schedule}
        cells = {
            (row["direction"], COLUMNS[row["task"], row["classes"]]): row
            for _, row in rows.iterrows()
        }
        found += lines(head, cells, whose=("", WHOSE))
    return line_table(found, "OPMask by training schedule: box and mask AP, percent")


def tex(frame: pd.DataFrame, scale: str) -> str:
    """Table 3 as LaTeX."""
    caption = f"OPMask by training schedule: box and mask AP, percent, scale {scale}."
    return latex(numbers(frame), caption, "tab:schedules")
