"""What the paper does not tabulate: contrasts, regression, ambiguity and the schedule search."""

import pandas as pd
from markupsafe import Markup

from study import format as markdown
from study.analysis.contrasts import CLAIMS
from study.format import interval
from study.labels import DIRECTIONS, NOT_RUN
from study.report.views import Table, intervals, table


def contrasts(frame: pd.DataFrame) -> list[Table]:
    """What the paper states, then our controls. `frame` is `contrasts.csv`."""
    frame = frame.assign(drawn=intervals(frame, "difference"))
    claimed, further = frame["claimed"].astype(str) == "True", frame["claim"].isin(CLAIMS)
    groups = {
        "What the paper states: AP of run A minus AP of run B, percent": claimed,
        "What it does not test: the prior apart from the deeper mask head, and backbones": (
            ~claimed & ~further
        ),
        "Further runs: splits and backbones that the paper does not have": further,
    }
    views = []
    for caption, chosen in groups.items():
        if chosen.any():
            lines = pd.DataFrame(map(_contrast, frame[chosen].to_dict("records")))
            views.append(table(lines, caption, headers=1, left=2))
    return views


def _contrast(row: dict) -> dict:
    ran = pd.notna(row["difference"])
    gain = markdown.signed(row["difference"], 2) if ran else NOT_RUN
    classes = interval(row["class_low"], row["class_high"])
    return {
        "What": row["claim"],
        "A and B": Markup("{}<br>{}").format(row["a"], row["b"]),
        "Classes": f"{row['tested']:.0f} {row['classes']}" if row["tested"] else row["classes"],
        "Difference": f"{gain} ± {row['sd']:.2f}" if row["seeds"] > 1 else gain,
        "95 %, images": row["drawn"],
        "95 %, classes": classes if pd.notna(row["class_low"]) else markdown.MISSING,
        "p": markdown.number(row["p"], 3),
        "p (Holm)": markdown.number(row["p_holm"], 3),
        "Seeds": f"{row['seeds']:.0f}" if ran else markdown.MISSING,
        "Paper": markdown.signed(row["paper"]),
    }


def search(frame: pd.DataFrame) -> list[Table]:
    """The schedule search's choices. `frame` is `schedule_search.csv` of the tables."""
    frame = frame.assign(drawn=intervals(frame, "drop"))
    lines = pd.DataFrame(map(_search, frame.to_dict("records")))
    caption = "Mask AP on held-out images: the chosen iteration against the last one"
    return [table(lines, caption, headers=3, left=3)]


def _search(row: dict) -> dict:
    ran = row["seeds"] > 0
    return {
        "Direction": DIRECTIONS.get(row["supervised"], row["supervised"]),
        "Chosen": row["choice"],
        "Classes": row["classes"],
        "At": f"{row['thousands']:.0f}k" if ran else markdown.MISSING,
        "Last": f"{row['last_thousands']:.0f}k" if ran else markdown.MISSING,
        "AP": markdown.number(row["ap"], 2),
        "AP of the last": markdown.number(row["ap_last"], 2),
        "Drop": markdown.signed(row["drop"], 2),
        "95 % interval": row["drawn"],
        "Verdict": row["verdict"],
    }
