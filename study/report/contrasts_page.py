"""Contrasts between runs for people: what the paper states, then our controls."""

import math

import pandas as pd

from study import format as markdown
from study.analysis.contrasts import CLAIMS
from study.format import interval
from study.labels import NOT_RUN


def contrasts_markdown(table: pd.DataFrame) -> str:
    """`contrast_table` for people: the paper's sentences first, then the rest, then how to read."""
    further = table["claim"].isin(CLAIMS)
    groups = {
        "**What the paper states**": table["claimed"],
        "**What it does not test**: the prior apart from the deeper mask head, and the "
        "backbones": ~table["claimed"] & ~further,
        "**Further runs**: splits and backbones that the paper does not have": further,
    }
    parts = []
    for heading, chosen in groups.items():
        if chosen.any():
            rows = map(_line, table[chosen].to_dict("records"))
            parts += [heading, markdown.table(pd.DataFrame(rows), 2)]
    return "\n\n".join([*parts, _NOTES])


_NOTES = (
    "Mask AP, percent. The interval and p are of a paired bootstrap over validation images: what "
    "other images would have given. The interval over classes says what other classes of the kind "
    "would have given. Neither covers the noise between trainings, which the spread (±, standard "
    "deviation) over seeds shows where there are several. p is two-sided and never below "
    "2 / (resamples + 1); p (Holm) is corrected over the paper's statements in this table that "
    "were run."
)


def _line(row: dict) -> dict[str, str]:
    ran = not math.isnan(row["difference"])
    gain = markdown.signed(row["difference"], 2) if ran else NOT_RUN
    return {
        "A": row["a"],
        "B": row["b"],
        "Classes": f"{row['tested']} {row['classes']}" if row["tested"] else row["classes"],
        "AP of A": markdown.number(row["value_a"], 2),
        "AP of B": markdown.number(row["value_b"], 2),
        "A − B": f"{gain} ± {row['sd']:.2f}" if row["seeds"] > 1 else gain,
        "95 %, images": interval(row["low"], row["high"]) if ran else markdown.MISSING,
        "95 %, classes": interval(row["class_low"], row["class_high"]) if ran else markdown.MISSING,
        "p": markdown.number(row["p"], 3),
        "p (Holm)": markdown.number(row["p_holm"], 3),
        "Seeds": str(row["seeds"]) if ran else markdown.MISSING,
        "Paper": markdown.signed(row["paper"]),
    }
