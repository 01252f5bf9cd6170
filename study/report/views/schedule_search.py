"""The schedule search (section 4.5): the choices, and how to read them."""

from typing import Any

import pandas as pd

from study.format import MISSING, number, signed
from study.labels import DIRECTIONS, NOT_RUN
from study.report.blocks import Block, Table, Whisker, whiskers
from study.report.render import say
from study.report.words import WORDS


def blocks(frame: pd.DataFrame) -> list[Block]:
    """The page. `frame` is `schedule_search.csv`, of `search.search_table`."""
    frame = frame.assign(drawn=whiskers(frame, "drop"))
    rows = pd.DataFrame(map(_line, frame.to_dict("records")))
    caption = "Mask AP on held-out images: the chosen iteration against the last one"
    return [_finding(frame), Table(rows, caption, headers=3, left=4), WORDS["schedule_search"]]


def _finding(frame: pd.DataFrame) -> str:
    """Where the novel classes were best, and what longer training did to them."""
    rows = frame.query("classes == 'novel' and choice != 'compromise'").to_dict("records")
    return say("schedule_search", rows, DIRECTIONS)


def _line(row: dict[Any, Any]) -> dict[str, str | Whisker]:
    ran = row["seeds"] > 0
    missing = NOT_RUN if row["verdict"] == NOT_RUN else MISSING
    return {
        "Direction": DIRECTIONS.get(row["supervised"], row["supervised"]),
        "Run": f"{row['method']}-{row['backbone']}-{row['supervised']}",
        "Chosen": row["choice"],
        "Classes": row["classes"],
        "At": f"{row['thousands']:.0f}k ({row['iteration']:.0f})" if ran else missing,
        "Last": f"{row['last_thousands']:.0f}k ({row['last']:.0f})" if ran else MISSING,
        "AP": number(row["ap"], 2),
        "AP of the last": number(row["ap_last"], 2),
        "Drop": signed(row["drop"], 2),
        "95 % interval": row["drawn"],
        "Seeds": f"{row['seeds']:.0f}" if ran else MISSING,
        "Verdict": row["verdict"],
    }
