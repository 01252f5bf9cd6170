"""Table 3 of the paper (section 4.5): schedules, box AP beside mask AP.

The mask head learns from some classes only and overfits earlier than the box head, which learns
from all; the 130k schedule is the paper's compromise. Its differences to 1x and 3x have paired
bootstrap intervals here.

The paper does not say of which classes AP_Box is. Its numbers hardly differ between the two
directions, which only box AP of all classes would do: on COCO the 20 VOC classes have clearly
higher box AP than the other 60 (46.8 against 39.0 in a public Mask R-CNN R-50-FPN of 40.9). So the
paper's AP_Box stands beside ours of all classes; box AP of the novel classes is our addition.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from study import format as markdown
from study import paper
from study.analysis.estimate import NAN, Estimate
from study.analysis.resampling import Resampler
from study.labels import BACKBONES, DIRECTIONS
from study.report import latex
from study.tables.cells import (
    CELL,
    SOURCE,
    as_columns,
    by_seed,
    caveats,
    cell,
    difference,
    flat,
    gain_text,
    lines,
    tally,
)

# (task, classes): title
COLUMNS = {
    ("bbox", "all"): "box AP, all classes",
    ("bbox", "novel"): "box AP, novel",
    ("segm", "novel"): "mask AP, novel",
}
_PUBLISHED = {("bbox", "all"): "AP_box", ("segm", "novel"): "AP"}
SCHEDULE, OTHERS = "130k", ("1x", "3x")
_KEYS = ["backbone", "schedule", "minus", "supervised", "direction", "task", "classes"]


def table3(
    per_class: pd.DataFrame, evaluate_dir: Path, *, resamples: int, seed: int
) -> pd.DataFrame:
    """Table 3 as a tidy frame: one row a number, then one a difference of schedules.

    Args:
        per_class: of `results.read_per_class`; OPMask's runs of all schedules are looked at.
        evaluate_dir: `runs/<scale>/evaluate`, with `matches_{bbox,segm}.npz` of every such run.
        resamples, seed: of the bootstrap over validation images.

    Returns:
        Columns: backbone, schedule, minus (the schedule subtracted; empty but for a difference),
        supervised (voc | nonvoc), direction, task (bbox | segm), classes (all | novel), and
        `cells.CELL`. AP in percent.
    """
    ours = per_class[per_class["method"] == "opmask"]
    published = paper.load("table3").set_index(["backbone", "schedule", "supervised"])
    rows = []
    for backbone, schedule, supervised in published.index:
        for column in COLUMNS:
            key = (backbone, schedule, supervised)
            found = cell(by_seed(_rows(ours, key, column)), _number(published, key, column))
            rows.append(_identity(backbone, schedule, "", supervised, column) | as_columns(found))
    resamplers = {
        str(schedule): Resampler(evaluate_dir, group, resamples=resamples, seed=seed)
        for schedule, group in ours.groupby("schedule")
    }
    pairs = [key for key in published.index if key[1] in OTHERS]
    for backbone, other, supervised in tqdm(pairs, desc="table 3: bootstrap", disable=None):
        keys = [(backbone, schedule, supervised) for schedule in (SCHEDULE, other)]
        for column in COLUMNS:
            stated = [_number(published, key, column) for key in keys]
            a, b = (by_seed(_rows(ours, key, column)) for key in keys)
            gain = _gain(resamplers, f"opmask-{backbone}-{supervised}", other, column)
            gap = difference(a, b, stated[0] - stated[1], gain)
            rows.append(_identity(backbone, SCHEDULE, other, supervised, column) | as_columns(gap))
    return pd.DataFrame(rows)[_KEYS + CELL]


def _gain(
    resamplers: Mapping[str, Resampler], name: str, other: str, column: tuple[str, str]
) -> Estimate | None:
    """130k minus another schedule, None unless both were run."""
    task, classes = column
    if not {SCHEDULE, other} <= set(resamplers):
        return None
    ids = resamplers[SCHEDULE].classes(name, classes)
    a, b = (resamplers[schedule].ap(name, task) for schedule in (SCHEDULE, other))
    return (a.of(ids) - b.of(ids)).estimate() if a and b else None


def _identity(
    backbone: str, schedule: str, minus: str, supervised: str, column: tuple[str, str]
) -> dict[str, str]:
    values = (backbone, schedule, minus, supervised, DIRECTIONS[supervised], *column)
    return dict(zip(_KEYS, values, strict=True))


def _number(published: pd.DataFrame, key: tuple[str, str, str], column: tuple[str, str]) -> float:
    return published.loc[key, _PUBLISHED[column]] if column in _PUBLISHED else NAN


def _rows(
    per_class: pd.DataFrame, key: tuple[str, str, str], column: tuple[str, str]
) -> pd.DataFrame:
    """Per-class results of one training configuration, in one task, on one class subset."""
    backbone, schedule, supervised = key
    task, classes = column
    found = per_class[
        (per_class["backbone"] == backbone)
        & (per_class["schedule"].astype(str) == schedule)
        & (per_class["supervised"] == supervised)
        & (per_class["task"] == task)
    ]
    return found if classes == "all" else found[found["supervision"] == "novel"]


def table3_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Rows and columns for people, as in the paper; `table` is of `table3`."""
    found = []
    plain = table[table["minus"] == ""]
    for (backbone, schedule), rows in plain.groupby(["backbone", "schedule"], sort=False):
        head = {("", "Backbone"): BACKBONES[backbone], ("", "Schedule"): schedule}
        cells = {
            (row["direction"], COLUMNS[row["task"], row["classes"]]): row
            for _, row in rows.iterrows()
        }
        found += lines(head, cells, source=("", SOURCE))
    return pd.DataFrame(found, columns=pd.MultiIndex.from_tuples(found[0]))


def table3_markdown(table: pd.DataFrame, scale: str) -> str:
    """Table 3 for people. `table` is of `table3`."""
    gaps = table[table["minus"] != ""]
    return "\n\n".join(
        [
            "OPMask with the paper's 130k schedule against the usual 1x and 3x: AP in percent.",
            _findings(gaps),
            _gains(gaps),
            caveats(scale, table["seeds"].tolist()),
            markdown.table(flat(table3_frame(table)), left=3),
            "The paper does not say of which classes its AP_Box is. It hardly differs between the "
            "two directions, as only box AP of all classes would, so that is where it stands here.",
        ]
    )


def table3_latex(table: pd.DataFrame, scale: str) -> str:
    """Table 3 as LaTeX. `table` is of `table3`."""
    caption = f"OPMask by training schedule: box and mask AP, percent, scale {scale}."
    return latex.table(table3_frame(table), caption, "tab:schedules", left=3)


def _findings(gaps: pd.DataFrame) -> str:
    """Where the intervals lie, for each schedule that 130k is compared with."""
    texts = []
    for (other, task, classes), rows in gaps.groupby(["minus", "task", "classes"], sort=False):
        what = f"{SCHEDULE} − {other}, {COLUMNS[task, classes]}"
        texts.append(f"- {what}: {tally(rows)}.")
    return "\n".join(texts)


def _gains(gaps: pd.DataFrame) -> str:
    found = []
    for key, rows in gaps.groupby(["backbone", "direction", "minus"], sort=False):
        line = {"Backbone": BACKBONES[key[0]], "Direction": key[1]}
        line["Schedules"] = f"{SCHEDULE} − {key[2]}"
        for _, row in rows.iterrows():
            words = gain_text(row)
            if pd.notna(row["paper"]):
                words += f", paper {markdown.signed(row['paper'])}"
            line[COLUMNS[row["task"], row["classes"]]] = words
        found.append(line)
    return markdown.table(pd.DataFrame(found), left=3)
