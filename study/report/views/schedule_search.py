"""The schedule search (section 4.5): the choices, and how to read them."""

import pandas as pd

from study.labels import DIRECTIONS
from study.report.blocks import Block, Table, whiskers
from study.report.render import lay_out, say
from study.report.words import WORDS


def blocks(frame: pd.DataFrame) -> list[Block]:
    """The page. `frame` is `schedule_search.csv`, of `search.search_table`."""
    # where the novel classes were best, and what longer training did to them
    novel = frame.query("classes == 'novel' and choice != 'compromise'").to_dict("records")
    table = lay_out(
        "schedule_search", frame.assign(drawn=whiskers(frame, "drop")).to_dict("records")
    )
    caption = "Mask AP on held-out images: the chosen iteration against the last one"
    finding = say("schedule_search", novel, DIRECTIONS)
    return [finding, Table(table, caption, headers=3, left=4), WORDS["schedule_search"]]
