"""Masks in true boxes: every run with a mask head beside the floors, which need no model.

Our addition: mask AP also counts how well boxes are found, which the paper's methods do alike.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from study.analysis.estimate import Estimate
from study.analysis.oracle import IOU, RIGHT, SHARES, Oracle, Scores
from study.labels import DIRECTIONS
from study.spec.results import METRICS
from study.tables.table1 import SIZES

CLASSES = ("novel", "supervised")
_OF_FLOORS, _OF_RUNS = [*SHARES, "boundary_iou"], ["iou_predicted", RIGHT]
_KEYS = ["supervised", "direction", "backbone", "method", "is_floor", "classes"]
COLUMNS = [*_KEYS, "iou", "low", "high", "sd", "seeds", "objects", *_OF_FLOORS, *_OF_RUNS,
           "ap",
           "floor", "above_floor", "above_low", "above_high", "side",
           "by_class", "by_class_above", "by_class_low", "by_class_high"]  # fmt: skip
PARTS = [*_KEYS, "by", "level", "iou", "low", "high", "sd", "seeds", "objects"]

Row = dict[str, Any]


def oracle_table(oracle: Oracle) -> pd.DataFrame:
    """A row a run and floor, and group of classes; percent, means over objects.

    Columns: supervised, direction (blank where the paper has no such split), backbone (blank of a
    floor), method (or the floor's name), is_floor, classes (novel | supervised); iou (mask IoU),
    low, high (95 %, bootstrap over images), sd (over seeds), seeds, objects; over50, over75 (share
    of objects with at least this IoU), boundary_iou, iou_predicted (with the class that the box
    head predicts in the box), right (share of boxes where that is the true one), ap (mask AP with
    perfect boxes); floor (the best one for these objects), above_floor (iou minus its), above_low,
    above_high (95 %, paired over images), side (where that interval lies: above | around | below);
    by_class (mean IoU over classes, which count alike, as in AP), by_class_above, by_class_low,
    by_class_high (above the floor that is best by this mean).
    """
    rows = []
    for key, scores, objects in _every(oracle):
        row = key | _columns(oracle.estimate(scores, objects), len(objects))
        row |= _means(oracle, key, objects)
        row |= {"by_class": oracle.by_class(scores, objects).value}
        if not key["is_floor"]:
            row |= _above_floor(oracle, key["supervised"], scores, objects)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).fillna({"floor": "", "side": ""})


def oracle_parts(oracle: Oracle, ambiguous: pd.Series, names: pd.Series) -> pd.DataFrame:
    """Mask IoU of the rows of `oracle_table` by class, by COCO's sizes and by ambiguity.

    Args:
        ambiguous: whether it is, by annotation id (`study.analysis.ambiguity`); may be empty.
        names: of classes, by category id.

    Returns:
        The first columns of `oracle_table`; by (class | size | ambiguity), level; iou, low, high,
        sd, seeds, objects. Levels without an object are left out.
    """
    identity = oracle.identity
    area = identity["area"]
    sizes = {metric: area.between(*SIZES[metric]) for metric in METRICS if metric in SIZES}
    known = ambiguous.reindex(identity.index)
    parts: dict[tuple[str, str], pd.Series] = {
        **{("class", name): identity["category_id"] == number for number, name in names.items()},
        **{("size", metric.removeprefix("AP")): chosen for metric, chosen in sizes.items()},
        ("ambiguity", "ambiguous"): known.eq(True),
        ("ambiguity", "clean"): known.eq(False),
    }
    rows = []
    for key, scores, objects in _every(oracle):
        for (by, level), chosen in parts.items():
            some = objects[chosen[objects]]
            if len(some):
                found = _columns(oracle.estimate(scores, some), len(some))
                rows.append(key | {"by": by, "level": level} | found)
    return pd.DataFrame(rows, columns=PARTS)


def _every(oracle: Oracle) -> Iterator[tuple[Row, Scores, pd.Index]]:
    """Keys, IoU and objects of all runs and floors, by supervised set and classes."""
    runs: dict[str, list[str]] = {}
    for name in oracle.runs.names:
        if oracle.tables(name):
            runs.setdefault(name.split("-")[2], []).append(name)
    for supervised, names in runs.items():
        about = {"supervised": supervised, "direction": DIRECTIONS.get(supervised, "")}
        for classes in CLASSES:
            objects = oracle.objects(oracle.runs.classes(names[0], classes))
            if not len(objects):
                continue
            for name in names:
                scores = oracle.scores(name)
                method, backbone, _ = name.split("-")
                key = about | {"backbone": backbone, "method": method, "is_floor": False}
                assert scores is not None  # it has tables
                yield key | {"classes": classes}, scores, objects
            for floor, scores in oracle.floors(supervised).items():
                key = about | {"backbone": "", "method": floor, "is_floor": True}
                yield key | {"classes": classes}, scores, objects


def _columns(one: Estimate, objects: int) -> Row:
    spread = {name: getattr(one, name) for name in ("low", "high", "sd", "seeds")}
    return {IOU: one.value, "objects": objects} | spread


def _means(oracle: Oracle, key: Row, objects: pd.Index) -> Row:
    if key["is_floor"]:
        known = {m: oracle.floors(key["supervised"], m)[key["method"]] for m in _OF_FLOORS}
        return {measure: one.mean[objects].mean() for measure, one in known.items()}
    name = f"{key['method']}-{key['backbone']}-{key['supervised']}"
    means = {measure: oracle.scores(name, measure) for measure in (*_OF_FLOORS, *_OF_RUNS)}
    row = {measure: one.mean[objects].mean() for measure, one in means.items() if one}
    return row | {"ap": oracle.ap(name, oracle.runs.classes(name, key["classes"]))}


def _above_floor(oracle: Oracle, supervised: str, scores: Scores, objects: pd.Index) -> Row:
    found = oracle.floors(supervised)
    if not found:
        return {}
    best = max(found, key=lambda name: found[name].mean[objects].mean())
    above = oracle.estimate(scores.above(found[best]), objects)
    row = {"above_floor": above.value, "above_low": above.low, "above_high": above.high}
    gaps = [oracle.by_class(scores.above(floor), objects) for floor in found.values()]
    least = min(gaps, key=lambda gap: gap.value)
    row |= {"by_class_above": least.value, "by_class_low": least.low, "by_class_high": least.high}
    return {"floor": best, "side": above.side_of()} | row
