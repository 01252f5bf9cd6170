"""Table 2 (section 4.4): class activation maps used as masks."""

import pandas as pd

from study.claims.findings import about
from study.report.blocks import Block, Bullets, Table
from study.report.latex import latex
from study.report.views.rows import caveats, gain_table, number_table, tally
from study.report.words import WORDS
from study.tables.table2 import SUBSETS
from study.tables.table2_rows import METHODS


def blocks(frame: pd.DataFrame, scale: str) -> list[Block]:
    """The page. `frame` is `table2.csv`, of `tables.table2`."""
    return [caveats(scale, frame["seeds"].tolist()), *body(frame)]


def body(frame: pd.DataFrame) -> list[Block]:
    """The page without the caveats, which a page around it has already."""
    gaps = frame[(frame["minus_method"] != "") & (frame["metric"] == "AP")]
    pairs = gaps.groupby(["method", "minus_method"], sort=False)
    return [
        WORDS["table2"],
        Bullets([f"{METHODS[a]} − {METHODS[b]}: {tally(rows)}." for (a, b), rows in pairs]),
        gain_table(
            gaps,
            ["method", "supervised", "minus_method", "minus_supervised"],
            _difference,
            lambda row: f"test on {SUBSETS[row['classes']]}",
        ),
        numbers(frame),
        *about("Table 2, "),
    ]


def numbers(frame: pd.DataFrame) -> Table:
    """The paper's rows and columns."""
    return number_table(
        frame[frame["minus_method"] == ""],
        ["method", "supervised"],
        lambda method, supervised: {"Model": METHODS[method], "Train set": SUBSETS[supervised]},
        lambda row: (f"test on {SUBSETS[row['classes']]}", row["metric"]),
        "AP and AP50 of class activation maps used as masks, percent",
        digits=2,
    )


def tex(frame: pd.DataFrame, scale: str) -> str:
    """Table 2 as LaTeX."""
    caption = f"Mask AP, percent, of class activation maps used as masks, scale {scale}."
    return latex(numbers(frame), caption, "tab:cam")


def _difference(a: str, train_a: str, b: str, train_b: str) -> dict[str, str]:
    name = f"{METHODS[a]} ({SUBSETS[train_a]}) − {METHODS[b]} ({SUBSETS[train_b]})"
    return {"Difference in AP (train set)": name}
