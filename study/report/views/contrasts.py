"""Contrasts between runs: what the paper states, then our controls, then further runs."""

import math
from typing import Any

import pandas as pd

from study.analysis.contrasts import CLAIMS
from study.format import MISSING, interval, number, signed
from study.labels import NOT_RUN
from study.report.blocks import Block, Table, Whisker, whiskers
from study.report.words import WORDS


def blocks(frame: pd.DataFrame) -> list[Block]:
    """The page. `frame` is `contrasts.csv`, of `contrasts.contrast_table`."""
    frame = frame.assign(drawn=whiskers(frame, "difference"))
    claimed, further = frame["claimed"].eq(True), frame["claim"].isin(CLAIMS)
    groups = {
        "**What the paper states**": claimed,
        "**What it does not test**: the prior apart from the deeper mask head, and the "
        "backbones": ~claimed & ~further,
        "**Further runs**: splits and backbones that the paper does not have": further,
    }
    tables = [
        Table(pd.DataFrame(map(_line, frame[chosen].to_dict("records"))), caption, left=4)
        for caption, chosen in groups.items()
        if chosen.any()
    ]
    return [*tables, WORDS["contrasts"]]


def _line(row: dict[Any, Any]) -> dict[str, str | Whisker]:
    ran = not math.isnan(row["difference"])
    gain = signed(row["difference"], 2) if ran else NOT_RUN
    return {
        "What": row["claim"],
        "A": row["a"],
        "B": row["b"],
        "Classes": f"{row['tested']:.0f} {row['classes']}" if row["tested"] else row["classes"],
        "AP of A": number(row["value_a"], 2),
        "AP of B": number(row["value_b"], 2),
        "A − B": f"{gain} ± {row['sd']:.2f}" if row["seeds"] > 1 else gain,
        "95 %, images": row["drawn"],
        "95 %, classes": interval(row["class_low"], row["class_high"]),
        "p": number(row["p"], 3),
        "p (Holm)": number(row["p_holm"], 3),
        "Seeds": f"{row['seeds']:.0f}" if ran else MISSING,
        "Paper": signed(row["paper"]),
    }
