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

from study import paper
from study.analysis.estimate import NAN, Estimate
from study.analysis.resampling import Resampler
from study.labels import DIRECTIONS
from study.tables.cells import CELL, as_columns, by_seed, cell, difference

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
    task, classes = column
    wanted = pd.Series([*key, task], ["backbone", "schedule", "supervised", "task"])
    found = per_class[(per_class[wanted.index] == wanted).all(axis="columns")]
    return found if classes == "all" else found[found["supervision"] == "novel"]
