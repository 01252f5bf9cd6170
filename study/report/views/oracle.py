"""Masks in true boxes: which methods a floor beats, then every number."""

import pandas as pd

from study.format import MISSING
from study.labels import BACKBONES, MODELS
from study.report.blocks import Block, Table, whiskers
from study.report.latex import latex
from study.report.render import lay_out, say
from study.report.words import WORDS


def blocks(frame: pd.DataFrame) -> list[Block]:
    """The page. `frame` is `oracle.csv`, of `tables.oracle`."""
    if frame.empty:
        return [WORDS["oracle"]["nothing"]]
    return [*map(sentence, _groups(frame)), WORDS["oracle"]["about"], *map(_table, _groups(frame))]


def body(frame: pd.DataFrame) -> list[Block]:
    """The part for the report of the scale: novel classes, in the paper's directions if it has
    any."""
    novel = frame[frame["classes"].eq("novel")] if not frame.empty else frame
    directed = novel[novel["direction"].fillna("").ne("")] if not novel.empty else novel
    shown = next((part for part in (directed, novel) if not part.empty), frame)
    more = [] if len(shown) == len(frame) else [WORDS["oracle"]["others"]]
    return [*blocks(shown), *more]


def sentence(group: pd.DataFrame) -> str:
    """Which methods lie below the best floor of these objects, and which are not above it."""
    runs = group[~group["is_floor"].eq(True)]
    sides = {
        side: [_name(row) for _, row in rows.iterrows()] for side, rows in runs.groupby("side")
    }
    return say("floors", _where(group), runs["floor"].iloc[0], sides)


def tex(frame: pd.DataFrame, scale: str) -> str:
    """The same tables as LaTeX."""
    return "\n".join(
        latex(
            _table(group),
            f"Masks in true boxes: {_where(group)}, scale {scale}. Percent.",
            "tab:oracle-" + "-".join(group.iloc[0][["supervised", "classes"]]),
        )
        for group in _groups(frame)
    )


def _groups(frame: pd.DataFrame) -> list[pd.DataFrame]:
    keys = ["supervised", "classes"]
    return [group for _, group in frame.groupby(keys, sort=False)]


def _where(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    direction = first["direction"] or f"masks of `{first['supervised']}`"
    return f"{direction}, {first['classes']} classes"


def _name(row: pd.Series) -> str:
    return f"{MODELS.get(row['method'], row['method'])} ({BACKBONES[row['backbone']]})"


def _table(group: pd.DataFrame) -> Table:
    drawn = whiskers(group.assign(low=group["above_low"], high=group["above_high"]), "above_floor")
    lines = lay_out("oracle", group.assign(drawn=drawn).to_dict("records"))
    there = lines.columns[(lines != MISSING).any()]
    return Table(lines[there], f"**{_where(group)}**", headers=2, left=2)
