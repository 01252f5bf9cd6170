"""Contrasts between runs: what the paper states, then our controls, then further runs."""

import pandas as pd

from study.analysis.contrasts import CLAIMS
from study.format import interval, number, signed
from study.labels import NOT_RUN
from study.report.blocks import Block, Table, whiskers
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
    missing = [f"{row['a']} − {row['b']}" for row in frame[~ran].to_dict("records")]
    not_run = f"{NOT_RUN.capitalize()}: {', '.join(missing)}." if missing else ""
    return [*tables, *filter(None, [not_run]), WORDS["contrasts"]]


def _table(frame: pd.DataFrame, caption: str) -> Table:
    """A line a contrast; several of one question stand below it."""
    rows = [
        {
            "What": "" if again else row["claim"],
            "A − B": f"{row['a']} − {row['b']}",
            "Classes": f"{row['tested']:.0f} {row['classes']}",
            "AP of A": number(row["value_a"], 2),
            "AP of B": number(row["value_b"], 2),
            "Gain": signed(row["difference"], 2)
            + (f" ± {row['sd']:.2f}" if row["seeds"] > 1 else ""),
            "95 %, images": row["drawn"],
            "95 %, classes": interval(row["class_low"], row["class_high"]),
            "p": number(row["p"], 3),
            "p (Holm)": number(row["p_holm"], 3),
            "Seeds": f"{row['seeds']:.0f}",
            "Paper": signed(row["paper"]),
        }
        for row, again in zip(
            frame.to_dict("records"), frame["claim"].eq(frame["claim"].shift()), strict=True
        )
    ]
    return Table(pd.DataFrame(rows), caption, left=3)
