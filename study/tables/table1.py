"""Table 1 of the paper (section 4.3): OPMask against its baseline on novel classes, both ways.

Beside the paper's columns stand what it leaves out: a paired bootstrap interval of the gain, box AP
of the same classes, and mask AP of the supervised classes. The other systems that the paper quotes
are there as it quotes them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from tqdm import tqdm

from opmask.evaluation.weighted_ap import METRICS as BOOTSTRAPPED
from study import paper
from study.analysis.estimate import NAN, Estimate
from study.analysis.oracle import Oracle
from study.analysis.resampling import CONFIGURATION, Resampler
from study.labels import BASELINE, DIFFERENCE, DIRECTIONS, METHODS, OURS, with_others
from study.spec.results import METRICS
from study.tables.cells import CELL, as_columns, cell, difference

IOU = "IoU"
# (classes, task, metric): the paper's six, then what gives them their context
_PAPER_CELLS = [("novel", "segm", metric) for metric in METRICS]
_CONTEXT_CELLS = [("novel", "bbox", "AP"), ("novel", "bbox", "AP50"), ("supervised", "segm", "AP")]
_ORACLE_CELLS = [("novel", "oracle", IOU), ("supervised", "oracle", IOU)]  # masks in true boxes
_CELL_KEYS = ["classes", "task", "metric"]

# COCO's, square pixels; both ends belong to a size
SIZES = {"APs": (0, 32**2), "APm": (32**2, 96**2), "APl": (96**2, float("inf"))}

Gains = Mapping[tuple[str, str], Mapping[str, Estimate]]


def novel_gains(resampler: Resampler, backbones: Iterable[str]) -> Gains:
    """Paired bootstrap of novel-class mask AP, OPMask − baseline, over validation images.

    Returns the gain in each of `weighted_ap.METRICS` by (backbone, supervised), where both methods
    were run; `backbones` are looked at besides the paper's.
    """
    gains = {}
    pairs = list(product(with_others(backbones), DIRECTIONS))
    for backbone, supervised in tqdm(pairs, desc="bootstrap", disable=None):
        a, b = (f"{method}-{backbone}-{supervised}" for method in (OURS, BASELINE))
        ids = resampler.classes(a, "novel")
        found = {metric: resampler.gain(a, b, ids, metric=metric) for metric in BOOTSTRAPPED}
        known = {metric: gain.estimate() for metric, gain in found.items() if gain}
        if known:
            gains[backbone, supervised] = known
    return gains


def with_oracle(
    summary: pd.DataFrame, gains: Gains, oracle: Oracle
) -> tuple[pd.DataFrame, dict[tuple[str, str], dict[str, Estimate]]]:
    """Both with mask IoU in true boxes, percent, mean over objects: `table1` takes them.

    In `summary` (of `results.summarise`) a row a run × supervision of task oracle, with the column
    IoU; in `gains` its gain on novel classes.
    """
    rows = []
    for name in oracle.runs.names:
        if (scores := oracle.scores(name)) is None:
            continue
        about = dict(zip(CONFIGURATION, name.split("-"), strict=True)) | {"task": "oracle"}
        for classes in ("novel", "supervised"):
            objects = oracle.objects(oracle.runs.classes(name, classes))
            means = scores.by_seed.loc[objects].mean()
            found = [about | {"seed": seed, IOU: value} for seed, value in means.items()]
            rows += [one | {"supervision": classes} for one in found]
    more = {key: dict(known) for key, known in gains.items()}
    for backbone, supervised in gains:
        a, b = (f"{method}-{backbone}-{supervised}" for method in (OURS, BASELINE))
        one, other = oracle.scores(a), oracle.scores(b)
        if one and other:
            objects = oracle.objects(oracle.runs.classes(a, "novel"))
            more[backbone, supervised][IOU] = oracle.estimate(one - other, objects)
    return pd.concat([summary, pd.DataFrame(rows)], ignore_index=True), more


def count_objects(
    per_class: pd.DataFrame, annotations: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str, str], int]:
    """Of how many objects an AP is, by (supervised, classes, metric of METRICS or IoU).

    Args:
        per_class: of `results.read_per_class`.
        annotations: of the validation set, COCO's records; crowds do not count.
    """
    objects = pd.DataFrame(
        [(a["category_id"], a["area"]) for a in annotations if not a.get("iscrowd")],
        columns=["category_id", "area"],
    )
    found = {}
    for (supervised, classes), rows in per_class.groupby(["supervised", "supervision"]):
        area = objects.loc[objects["category_id"].isin(rows["category_id"]), "area"]
        for metric in (*METRICS, IOU):
            low, high = SIZES.get(metric, (0, float("inf")))
            found[supervised, classes, metric] = int(area.between(low, high).sum())
    return found


def table1(
    summary: pd.DataFrame, gains: Gains, objects: Mapping[tuple[str, str, str], int] | None = None
) -> pd.DataFrame:
    """Table 1 as a tidy frame: one row a backbone × method × direction × classes × task × metric.

    Args:
        summary: of `results.summarise`, of runs of one schedule.
        gains: of `novel_gains`; fills `low` and `high` of the differences in novel mask AP, AP50
            and AP75. Both with IoU of true boxes, if it is known: `with_oracle`.
        objects: of `count_objects`, if it is known.

    Returns:
        Columns: backbone, method (as in the paper, or `difference` = OPMask − baseline),
        supervised, direction, classes (novel | supervised), task (segm | bbox | oracle), metric;
        `cells.CELL`; quoted
        (True for the systems whose numbers the paper quotes; we run none); objects (of the
        validation set that our AP is of; NaN if not known). AP in percent.
    """
    published = paper.load("table1")
    summary = summary.reindex(columns=[*summary.columns.union([IOU])])
    rows = []
    for backbone in with_others(summary["backbone"]):
        for supervised in DIRECTIONS:
            key = {"backbone": backbone, "supervised": supervised}
            ours, paper_rows = (
                table[(table[list(key)] == pd.Series(key)).all(axis="columns")]
                for table in (summary, published)
            )
            key["direction"] = DIRECTIONS[supervised]
            for name in _PAPER_CELLS + _CONTEXT_CELLS + _ORACLE_CELLS:
                values = dict.fromkeys(METHODS.values(), NAN)
                if name in _PAPER_CELLS and len(paper_rows):
                    values = dict(zip(paper_rows["method"], paper_rows[name[2]], strict=True))
                is_gain = name in [*_PAPER_CELLS, _ORACLE_CELLS[0]]
                gain = gains.get((backbone, supervised), {}).get(name[2]) if is_gain else None
                key |= dict(zip(_CELL_KEYS, name, strict=True))
                rows += [key | row for row in _cell_rows(ours, name, values, gain)]
    columns = ["backbone", "method", "supervised", "direction", *_CELL_KEYS, *CELL, "quoted"]
    table = pd.DataFrame(rows)[columns]
    keys = zip(table["supervised"], table["classes"], table["metric"], strict=True)
    return table.assign(objects=[(objects or {}).get(key, NAN) for key in keys])


def _cell_rows(
    ours: pd.DataFrame, name: tuple, published: Mapping[str, float], gain: Estimate | None
) -> list[dict]:
    """Rows of one cell: the methods of `published` in its order, then the difference.

    `ours` is of one comparison.
    """
    classes, task, metric = name
    ours = ours[(ours["supervision"] == classes) & (ours["task"] == task)]
    keys = {method: key for key, method in METHODS.items()}
    seeds = {
        method: ours[ours["method"] == keys.get(method)].set_index("seed")[metric]
        for method in published
    }
    rows = [
        {"method": method, "quoted": method not in keys}
        | as_columns(cell(values, published[method]))
        for method, values in seeds.items()
    ]
    a, b = METHODS[OURS], METHODS[BASELINE]
    gap = difference(seeds[a], seeds[b], published[a] - published[b], gain)
    return [*rows, {"method": DIFFERENCE, "quoted": False} | as_columns(gap)]
