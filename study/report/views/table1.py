"""Table 1 (section 4.3): the gains on novel classes, the paper's columns, and their context."""

from collections.abc import Sequence

import pandas as pd

from study.analysis.comparison import Comparison, comparisons, shown
from study.format import MISSING, number
from study.labels import BACKBONES, DIFFERENCE, DIRECTIONS, NOT_RUN
from study.report.blocks import Block, Table, whiskers
from study.report.latex import latex
from study.report.render import lay_out
from study.report.views.rows import (
    FEW,
    QUOTED,
    WHOSE,
    caveats,
    gain_table,
    line_table,
    lines,
    value,
)
from study.report.words import WORDS

_GRADED = ["… over trainings too"]
# What gives the paper's six columns their context.
_CONTEXT = {
    ("novel", "bbox", "AP"): "Novel: box AP",
    ("novel", "bbox", "AP50"): "Novel: box AP50",
    ("supervised", "segm", "AP"): "Supervised: mask AP",
    ("novel", "oracle", "IoU"): "Novel: IoU in true boxes",
    ("supervised", "oracle", "IoU"): "Supervised: IoU in true boxes",
}


def blocks(frame: pd.DataFrame, scale: str) -> list[Block]:
    """The page. `frame` is `table1.csv`, of `tables.table1`."""
    found = comparisons(frame)
    note = caveats(scale, [one.seeds for one in found])
    return [gains(frame, found, graded=False), note, *body(frame)]


def gains(frame: pd.DataFrame, found: Sequence[Comparison], *, graded: bool = True) -> Table:
    """OPMask against the baseline on novel classes, a row each of `found`, `comparisons` of
    `frame`. graded: with the noise between trainings."""
    gaps = _gaps(frame, "AP").set_index(["backbone", "supervised"])
    of_ap = gaps.loc[[(one.backbone, one.supervised) for one in found]]
    lines = zip(found, whiskers(of_ap, "ours"), of_ap.to_dict("records"), strict=True)
    table = lay_out(
        "gains", [{"one": one, "drawn": drawn, "row": row} for one, drawn, row in lines]
    )
    caption = "Mask AP of novel classes, percent; direction: masks in training → tested on"
    table = table if graded else table.drop(columns=_GRADED)
    there = table.columns[(table != MISSING).any()]  # of other backbones the paper says nothing
    return Table(table[there], caption, headers=2, left=2)


def body(frame: pd.DataFrame) -> list[Block]:
    """The paper's six columns, a table a direction, and what gives them their context."""
    frame = shown(frame)
    return [*_directions(frame), _strict(frame), _context(frame)]


def _strict(frame: pd.DataFrame) -> Table:
    """The gains at one overlap each, with their intervals."""
    rows = pd.concat([_gaps(frame, metric) for metric in ("AP50", "AP75")])
    return gain_table(
        rows,
        ["backbone", "direction"],
        lambda backbone, direction: {"Backbone": BACKBONES[backbone], "Direction": direction},
        lambda row: f"Gain in {row['metric']}",
    )


def _gaps(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    gaps = frame.query("method == @DIFFERENCE and classes == 'novel' and task == 'segm'")
    return gaps[gaps["metric"] == metric]


def tex(frame: pd.DataFrame, scale: str) -> str:
    """Table 1 as LaTeX, a table a direction."""
    tables = zip(_directions(shown(frame)), DIRECTIONS.items(), strict=True)
    caption = "Mask AP of novel classes, percent: {}, scale {}."
    return "\n".join(
        latex(table, caption.format(direction, scale), f"tab:novel-{supervised}")
        for table, (supervised, direction) in tables
    )


def _directions(frame: pd.DataFrame) -> list[Table]:
    found = []
    for supervised, direction in DIRECTIONS.items():
        masks, tested = direction.split(" → ")
        caption = WORDS["direction"].format(
            direction=direction, masks=masks, tested=tested, few=FEW
        )
        novel = frame.query("classes == 'novel' and task == 'segm'")
        rows = novel[novel["supervised"] == supervised]
        found.append(line_table(_lines(rows), caption))
    return found


def _lines(rows: pd.DataFrame) -> Sequence[dict]:
    """One direction: ours, the paper's, the difference of the two, and what the paper quotes."""
    found: list[dict] = []
    for (backbone, method), group in rows.groupby(["backbone", "method"], sort=False):
        cells = {row["metric"]: row for _, row in group.iterrows()}
        head = {"Backbone": BACKBONES[backbone], "Method": method}
        if group["quoted"].any():
            numbers = {metric: number(row["paper"]) for metric, row in cells.items()}
            found.append(head | {WHOSE: QUOTED} | numbers)
        else:
            found += lines(head, cells, is_difference=method == DIFFERENCE)
    return found


def _context(frame: pd.DataFrame) -> Table:
    found = []
    ours = frame[(frame["method"] != DIFFERENCE) & ~frame["quoted"]]
    for key, rows in ours.groupby(["backbone", "direction", "method"], sort=False):
        cells = rows.set_index(["classes", "task", "metric"])
        line = {"Backbone": BACKBONES[key[0]], "Direction": key[1], "Method": key[2]}
        for name, label in _CONTEXT.items():
            if name not in cells.index:  # of an earlier version
                continue
            row = cells.loc[name]
            line[label] = value(row, number(row["ours"])) if row["seeds"] else NOT_RUN
        found.append(line)
    return Table(pd.DataFrame(found), WORDS["context_of_table1"], headers=3, left=3)
