"""Tables 1 to 3 of the paper: ours, the paper's, the difference of the two, and intervals."""

from collections.abc import Callable, Sequence

import pandas as pd

from study import format as markdown
from study.analysis.comparison import Comparison, shown
from study.labels import BACKBONES, DIFFERENCE, DIRECTIONS, NOT_RUN
from study.report.views import Table, intervals, table
from study.tables.cells import SOURCE, gain_text
from study.tables.table1 import QUOTED, metrics_frame
from study.tables.table2 import SUBSETS, table2_frame
from study.tables.table2_rows import METHODS as CAM_METHODS
from study.tables.table3 import COLUMNS, SCHEDULE, table3_frame

_LINES = {"ours": "ours", "paper": "paper", "ours − paper": "gap", QUOTED: "quoted"}
_FIXED = "\N{NO-BREAK SPACE}"


def headline_gains(found: Sequence[Comparison]) -> Table:
    """OPMask against the baseline on novel classes, a row a backbone and direction."""
    gains = pd.DataFrame(found)
    rows = [
        {
            "Backbone": BACKBONES[one.backbone],
            "Direction": DIRECTIONS[one.supervised],
            "Baseline": markdown.number(one.baseline, 2),
            "OPMask": markdown.number(one.opmask, 2),
            "Gain": NOT_RUN if one.verdict == NOT_RUN else markdown.signed(one.gain, 2),
            "95 % interval": whisker,
            "Seeds": str(one.seeds or markdown.MISSING),
            "Paper’s gain": markdown.signed(one.paper_gain),
        }
        for one, whisker in zip(found, intervals(gains, "value"), strict=True)
    ]
    caption = "Mask AP of novel classes, percent: OPMask against its Mask R-CNN baseline"
    return table(pd.DataFrame(rows), caption, headers=2, left=2)


def table1(frame: pd.DataFrame) -> list[Table]:
    """A table a direction, then the gains with their intervals. `frame` is `table1.csv`."""
    if QUOTED not in frame:
        frame = frame.assign(**{QUOTED: False})
    views, frame = [], shown(frame)
    for supervised, direction in DIRECTIONS.items():
        rows = metrics_frame(frame[frame["supervised"] == supervised])
        tested = direction.split(" → ")[1]
        caption = f"{direction}: mask AP of the {tested} classes, novel here, percent"
        views.append(_lines(rows, caption, headers=2))
    return [*views, _gains_by_metric(frame)]


def _gains_by_metric(frame: pd.DataFrame) -> Table:
    """The gains in the metrics that a bootstrap over images can be made for."""
    novel = frame.query("method == @DIFFERENCE and classes == 'novel' and task == 'segm'")
    novel = novel[novel["metric"].isin(["AP", "AP50", "AP75"])]

    def name(key: Sequence[str]) -> dict[str, str]:
        return {"Backbone": BACKBONES[key[0]], "Direction": DIRECTIONS[key[1]]}

    gaps = _gaps(novel, ["backbone", "supervised"], name, lambda row: row["metric"])
    caption = "Gain of OPMask on novel classes with its 95 % interval"
    return table(gaps, caption, headers=2, left=2, wrap=True)


def table2(frame: pd.DataFrame) -> list[Table]:
    """Class activation maps as masks. `frame` is `table2.csv`."""
    plain = table2_frame(frame[frame["minus_method"] == ""])
    keys = ["method", "supervised", "minus_method", "minus_supervised"]

    def name(key: Sequence[str]) -> dict[str, str]:
        a, b = (f"{CAM_METHODS[m]} ({SUBSETS[s]})" for m, s in (key[:2], key[2:]))
        return {"Difference (train set)": f"{a} − {b}"}

    def column(row: pd.Series) -> str:
        return f"test on {SUBSETS[row['classes']]}"

    gaps = _gaps(frame[frame["minus_method"] != ""], keys, name, column)
    return [
        _lines(plain, "AP and AP50 of class activation maps used as masks, percent", headers=2),
        table(gaps, "Differences in AP with their 95 % interval", headers=1, wrap=True),
    ]


def table3(frame: pd.DataFrame) -> list[Table]:
    """Schedules. `frame` is `table3.csv`."""
    plain = table3_frame(frame[frame["minus"] == ""])

    def name(key: Sequence[str]) -> dict[str, str]:
        backbone, direction, minus = key
        named = {"Backbone": BACKBONES[backbone], "Direction": direction}
        return named | {"Schedules": f"{SCHEDULE} − {minus}"}

    def column(row: pd.Series) -> str:
        return COLUMNS[row["task"], row["classes"]]

    gaps = _gaps(frame[frame["minus"] != ""], ["backbone", "direction", "minus"], name, column)
    return [
        _lines(plain, "OPMask by training schedule: box and mask AP, percent", headers=2),
        table(gaps, "Differences in AP with their 95 % interval", headers=3, left=3, wrap=True),
    ]


def _lines(frame: pd.DataFrame, caption: str, *, headers: int) -> Table:
    """A frame of `cells.lines`: after `headers` columns one that says whose numbers a row has."""
    sources = frame.iloc[:, headers]
    methods = frame.iloc[:, headers - 1].replace("", None).ffill()
    kinds = [
        ("difference " if method == DIFFERENCE else "") + _LINES.get(source, "")
        for source, method in zip(sources, methods, strict=True)
    ]
    named = {SOURCE: "whose", ("", SOURCE): ("", "whose")}
    frame = frame.set_axis([named.get(column, column) for column in frame.columns], axis="columns")
    return table(frame, caption, headers=headers, left=headers + 1, kinds=kinds)


def _gaps(
    rows: pd.DataFrame,
    keys: Sequence[str],
    name: Callable[[Sequence[str]], dict[str, str]],
    column: Callable[[pd.Series], str],
) -> pd.DataFrame:
    """Differences, a line a group of `keys`: ours with interval, and the paper's."""
    found = []
    for key, group in rows.groupby(list(keys), sort=False):
        line = name(key)
        for _, row in group.iterrows():
            words = gain_text(row).replace(" ", _FIXED)  # only the paper's may be on a new line
            if pd.notna(row["paper"]):
                words += f"; paper{_FIXED}{markdown.signed(row['paper'])}"
            line[column(row)] = words
        found.append(line)
    return pd.DataFrame(found)
