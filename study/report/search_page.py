"""The schedule search (section 4.5) for people: the choices, and how to read them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study import format as markdown
from study.format import interval
from study.labels import DIRECTIONS, NOT_RUN


def search_markdown(table: pd.DataFrame) -> str:
    """`search_table` for people: each split's choices, then how to read them."""
    lines = [_line(row) for row in table.to_dict("records")]
    return "\n\n".join([_finding(table), markdown.table(pd.DataFrame(lines), left=4), _NOTES])


def _finding(table: pd.DataFrame) -> str:
    """Where the novel classes were best, and what longer training did to them."""
    parts = []
    for row in table.query("classes == 'novel' and choice != 'compromise'").to_dict("records"):
        if row["seeds"] and row["choice"] == "best":
            parts.append(
                f"{DIRECTIONS.get(row['supervised'], row['supervised'])}: novel classes are best "
                f"at {row['thousands']:.0f}k of {row['last_thousands']:.0f}k."
            )
        elif row["seeds"]:
            parts.append(
                f"From {row['thousands']:.0f}k to the end their mask AP changes by "
                f"{markdown.signed(-row['drop'], 2)} ({interval(-row['high'], -row['low'])}): "
                f"{row['verdict']}."
            )
    return " ".join(parts) or f"The schedule search was {NOT_RUN}."


def _line(row: Mapping[str, Any]) -> dict[str, str]:
    ran = row["seeds"] > 0
    missing = NOT_RUN if row["verdict"] == NOT_RUN else markdown.MISSING
    return {
        "Direction": DIRECTIONS.get(row["supervised"], row["supervised"]),
        "Run": f"{row['method']}-{row['backbone']}-{row['supervised']}",
        "Chosen": row["choice"],
        "Classes": row["classes"],
        "At": f"{row['thousands']:.0f}k ({row['iteration']:.0f})" if ran else missing,
        "Last": f"{row['last_thousands']:.0f}k ({row['last']:.0f})" if ran else markdown.MISSING,
        "AP": markdown.number(row["ap"], 2),
        "AP of the last": markdown.number(row["ap_last"], 2),
        "Drop": markdown.signed(row["drop"], 2),
        "95 % interval": interval(row["low"], row["high"]) if ran else markdown.MISSING,
        "Seeds": str(row["seeds"]) if ran else markdown.MISSING,
        "Verdict": row["verdict"],
    }


_NOTES = (
    "Mask AP in percent on the held-out training images. Iterations are the paper's, thousands; in "
    "brackets those done at this scale. Chosen: *best* on the novel classes of this split; "
    "*compromise*, best in the mean of both splits; *paper*, the snapshot nearest to its 130k. Of "
    "equal iterations the earliest is taken. The interval is a paired bootstrap over the held-out "
    "images. *best* was chosen on these very images and cannot lose to the last: only *paper*, "
    "fixed beforehand, tests whether longer training overfits. *overfits*: the interval of the "
    "novel classes' drop lies above 0 and that of the supervised ones does not. What the paper "
    "says of a *second* learning rate step is about the 1x and 3x schedules: Table 3."
)
