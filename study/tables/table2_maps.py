"""What Table 2 leaves open: the threshold of a map, the box whose features it is made of, a floor.

The paper gives AP of "our OMP" and of "vanilla CAMs" as masks and not how a map becomes a mask.
Ours is half of its range, from the features of the proposal. Here stand beside it the same from the
refined box, ellipses in the same detections, and, in true boxes, IoU and coverage at that threshold
and at the best one, which is chosen on the half of the images that it is not measured on.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.splits import VOC_CLASSES
from study.analysis.estimate import Estimate
from study.analysis.oracle import Oracle, Scores
from study.analysis.resampling import Resampler
from study.spec.results import read_one
from study.spec.run import Run
from study.tables.table2 import CONTRASTS, SUBSETS
from study.tables.table2_rows import BACKBONE, PER_CLASS_OF

AP = ("ap", "ap_refined", "ap_ellipse")  # of the files PER_CLASS_OF
ELLIPSE = "iou_ellipse"
IN_BOXES = ("iou", "covered", "iou_best", "covered_best", "threshold_best", ELLIPSE)
_KEYS = ["method", "supervised", "minus_method", "minus_supervised", "classes", "measure"]
COLUMNS = [*_KEYS, "ours", "low", "high", "sd", "seeds"]

Row = dict[str, Any]


def table2_maps(
    per_class: pd.DataFrame, cam_dir: Path, runs: Sequence[Run], threshold: float, **bootstrap: int
) -> pd.DataFrame:
    """A row a number, then one a difference of two configurations (`table2.CONTRASTS`).

    Args:
        per_class: of `table2.read_cam`. cam_dir: `runs/<scale>/cam`. runs: rows of Table 2.
        threshold: of `cam` in paper.yaml. bootstrap: `resamples` and `seed`.

    Returns:
        Columns: method, supervised, minus_method, minus_supervised (empty but for a difference),
        classes (all | voc | nonvoc), measure: ap, ap_refined, ap_ellipse (mask AP of detections);
        iou, covered (share of the object's pixels) at the fixed threshold, iou_best, covered_best
        at threshold_best, and iou_ellipse, means over objects in true boxes; ours, percent; low,
        high (95 %, bootstrap over images, of differences paired), sd over seeds, seeds.
    """
    oracle = Oracle(Resampler(cam_dir, per_class, **bootstrap))
    found = {name: _in_boxes(oracle.tables(name), threshold) for name in oracle.runs.names}
    ap = _ap(cam_dir, runs)
    voc = per_class.loc[per_class["category"].isin(VOC_CLASSES), "category_id"].unique()
    every = oracle.identity["category_id"]
    objects = {
        "all": oracle.identity.index,
        "voc": oracle.identity.index[every.isin(voc)],
        "nonvoc": oracle.identity.index[~every.isin(voc)],
    }
    rows: list[Row] = []
    for name, measures in found.items():
        method, _, supervised = name.split("-")
        for classes in SUBSETS:
            key = {"method": method, "supervised": supervised, "classes": classes}
            rows += [key | one for one in _of_ap(ap, method, supervised, classes)]
            rows += [
                key | {"measure": measure} | _columns(oracle.estimate(scores, objects[classes]))
                for measure, scores in measures.items()
                if len(objects[classes])
            ]
    for (a, b), classes in product(CONTRASTS, SUBSETS):
        one, other = (found.get(f"{m}-{BACKBONE}-{s}", {}) for m, s in (a, b))
        key = {"method": a[0], "supervised": a[1], "minus_method": b[0], "minus_supervised": b[1]}
        for measure in ("iou", "covered", "iou_best", "covered_best"):
            row = key | {"classes": classes, "measure": measure, "seeds": 0}
            if one and other and len(objects[classes]):
                gap = one[measure] - other[measure]
                row |= _columns(oracle.estimate(gap, objects[classes]))
            rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.fillna({"minus_method": "", "minus_supervised": ""})


def _columns(one: Estimate) -> Row:
    spread = {name: getattr(one, name) for name in ("low", "high", "sd", "seeds")}
    return {"ours": one.value} | spread


def _in_boxes(tables: Mapping[int, pd.DataFrame], threshold: float) -> dict[str, Scores]:
    """IN_BOXES of one configuration; `tables`: of its seeds, what stage `cam` left."""
    if not tables:
        return {}
    fixed = round(100 * threshold)
    chosen = {seed: best_thresholds(table) for seed, table in tables.items()}
    columns = {
        "iou": {seed: table[f"iou_{fixed}"] for seed, table in tables.items()},
        "covered": {seed: table[f"covered_{fixed}"] for seed, table in tables.items()},
        "iou_best": {seed: _at(table, "iou", chosen[seed]) for seed, table in tables.items()},
        "covered_best": {s: _at(table, "covered", chosen[s]) for s, table in tables.items()},
        "threshold_best": {seed: one / 100 for seed, one in chosen.items()},
        ELLIPSE: {seed: table[ELLIPSE] for seed, table in tables.items()},
    }
    frames = {name: pd.DataFrame(one) * 100 for name, one in columns.items()}
    return {name: Scores(frame.mean(axis="columns"), frame) for name, frame in frames.items()}


def best_thresholds(table: pd.DataFrame) -> pd.Series:
    """By object, the threshold, percent, with the best mean IoU over the other half of the images.

    The halves are the images in their order, in turn.
    """
    half = table["image_id"].rank(method="dense").astype(int) % 2
    curves = table.filter(regex=r"^iou_\d+$").groupby(half).mean()
    best = curves.idxmax(axis="columns").str.removeprefix("iou_").astype(int)
    other = {own: best.get(1 - own, best[own]) for own in best.index}  # of one image alone
    return half.map(other)


def _at(table: pd.DataFrame, measure: str, thresholds: pd.Series) -> pd.Series:
    """A measure of each object at its own threshold, percent."""
    parts = [
        table.loc[thresholds.index[thresholds == one], f"{measure}_{one}"]
        for one in thresholds.unique()
    ]
    return pd.concat(parts).reindex(table.index)


def _ap(cam_dir: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Per-class AP by `measure` of AP, of all runs that stage `cam` evaluated."""
    parts = [
        read_one(cam_dir / run.key / file, run).assign(measure=measure)
        for run in runs
        for measure, file in zip(AP, PER_CLASS_OF, strict=True)
        if (cam_dir / run.key / file).is_file()
    ]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["method", "measure"])


def _of_ap(ap: pd.DataFrame, method: str, supervised: str, classes: str) -> list[Row]:
    own = ap[(ap["method"] == method) & (ap["supervised"] == supervised)]
    if classes != "all":
        own = own[own["category"].isin(VOC_CLASSES) == (classes == "voc")]
    rows = []
    for measure, part in own.groupby("measure", sort=False):
        seeds = part.groupby("seed")["AP"].mean()
        spread = {"sd": float(seeds.std()), "seeds": len(seeds)}
        rows.append({"measure": measure, "ours": float(seeds.mean())} | spread)
    return rows
