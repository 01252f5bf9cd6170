"""Other systems on the paper's base: a table a direction and measure, best first."""

import pandas as pd

from study.analysis.controls import MEASURES
from study.analysis.estimate import ALPHA
from study.labels import DIRECTIONS
from study.report.blocks import Block, Bullets, Table
from study.report.render import lay_out, say
from study.report.words import WORDS


def body(frame: pd.DataFrame, combinations: pd.DataFrame | None = None) -> list[Block]:
    """`blocks` with the tables of mask AP alone, for the page of everything."""
    found = blocks(frame, combinations)
    short = [one for one in found if not isinstance(one, Table) or MEASURES["segm"] in one.caption]
    return short if len(short) == len(found) else [*short, WORDS["rivals"]["further"]]


def blocks(frame: pd.DataFrame, combinations: pd.DataFrame | None = None) -> list[Block]:
    """The page. `frame` is `rivals.csv`, of `analysis.rivals.rivals_table` and `with_times`;
    `combinations` is `combinations.csv`, of `analysis.combinations.combinations_table`."""
    chosen = [] if combinations is None or combinations.empty else _chosen(frame, combinations)
    if frame.empty:
        return [WORDS["rivals"]["nothing"], *chosen]
    groups = [
        (supervised, task, rows)
        for supervised in DIRECTIONS
        for task in MEASURES
        if len(rows := frame[(frame["supervised"] == supervised) & (frame["task"] == task)])
    ]
    return [
        Bullets([sentence(DIRECTIONS[one], MEASURES[task], rows) for one, task, rows in groups]),
        WORDS["rivals"]["about"].format(seeds=int(frame["seeds"].max())),
        *(_table(*group) for group in groups),
        *chosen,
    ]


def _table(supervised: str, task: str, rows: pd.DataFrame) -> Table:
    columns = "rivals_more" if task == "segm" else "rivals"
    caption = f"**{DIRECTIONS[supervised]}**, {MEASURES[task]}"
    return Table(lay_out(columns, rows.to_dict("records")), caption, wrap=True)


def _chosen(frame: pd.DataFrame, combinations: pd.DataFrame) -> list[Block]:
    """Which combination is best, what it gave on validation images, and how it was chosen."""
    rows = combinations.to_dict("records")
    own = frame[(frame["method"] == rows[0]["method"]) & (frame["task"] == "segm")]
    return [
        say("combinations", rows, own.to_dict("records")),
        Table(lay_out("combinations", rows), "How the combination was chosen"),
        WORDS["rivals"]["combinations"],
    ]


def sentence(direction: str, measure: str, rows: pd.DataFrame) -> str:
    """Which methods are decided to be better than the baseline, and which than OPMask or worse."""
    decided = {
        "better": rows[(rows["gain_p_holm"] < ALPHA) & (rows["gain"] > 0)],
        "ahead": rows[(rows["behind_p_holm"] < ALPHA) & (rows["behind"] < 0)],
        "behind": rows[(rows["behind_p_holm"] < ALPHA) & (rows["behind"] > 0)],
    }
    return say("rivals", direction, measure, {k: list(v["method"]) for k, v in decided.items()})
