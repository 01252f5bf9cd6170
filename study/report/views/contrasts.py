"""Contrasts between runs: what the paper states, then our controls, then further runs."""

import pandas as pd

from study.analysis.contrasts import CLAIMS
from study.labels import NOT_RUN
from study.report.blocks import Block, Table, whiskers
from study.report.render import lay_out
from study.report.words import WORDS


def blocks(frame: pd.DataFrame) -> list[Block]:
    """The page. `frame` is `contrasts.csv`, of `contrasts.contrast_table`."""
    ran = frame["difference"].notna()
    frame = frame.assign(drawn=whiskers(frame, "difference"))
    claimed, further = frame["claimed"].eq(True), frame["claim"].isin(CLAIMS)
    groups = zip(WORDS["contrast_groups"], (claimed, ~claimed & ~further, further), strict=True)
    tables = [
        _table(frame[chosen & ran], caption) for caption, chosen in groups if (chosen & ran).any()
    ]
    missing = dict.fromkeys(f"{row['a']} − {row['b']}" for row in frame[~ran].to_dict("records"))
    not_run = f"{NOT_RUN.capitalize()}: {', '.join(missing)}." if missing else ""
    return [*tables, *filter(None, [not_run]), WORDS["contrasts"]]


def _table(frame: pd.DataFrame, caption: str) -> Table:
    """A line a contrast; several of one question stand below it."""
    again = frame["claim"].eq(frame["claim"].shift())
    return Table(
        lay_out("contrasts", frame.assign(again=again).to_dict("records")), caption, left=3
    )
