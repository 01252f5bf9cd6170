"""Which pictures stand in figures 1, 4, 5, 7 and 8: chosen by written rules, never by hand.

A rule orders the candidates by a number and takes fixed quantiles, so that a figure shows the worst
case beside the best. `RULES` says it in words, and is printed under each picture.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opmask.errors import UserError
from study import labels
from study.analysis.ambiguity import MEASURES
from study.analysis.declared import load
from study.labels import BASELINE, OURS
from study.spec.paths import WEIGHTS
from study.spec.run import Run

MIN_SIDE = 0.125  # of the image's shorter side: below, there is nothing to see
# Quantiles by name.
THREE = {"largest gain": 1.0, "median": 0.5, "largest loss": 0.0}
FIVE = {"largest gain": 1.0, "upper quartile": 0.75, "median": 0.5, "lower quartile": 0.25,
        "largest loss": 0.0}  # fmt: skip
_RANKS = {f"rank {rank}\N{NO-BREAK SPACE}%": rank / 100 for rank in (20, 40, 60, 80)}
SIZES = {"smallest": 0.0, **_RANKS, "largest": 1.0}
DIRECTION_OF = {"figure5": "voc", "figure8": "nonvoc"}
RULES: dict[str, str] = load("picture_rules")

Images = Mapping[int, Mapping[str, Any]]  # entries of a COCO json by id


def read_frame(path: Path) -> pd.DataFrame:
    """`ambiguity.csv` of stage `ambiguity`; UserError if it lacks what the rules need."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the `ambiguity` stage first")
    numbers = ["ambiguity", "score", *MEASURES]
    frame = pd.read_csv(path, keep_default_na=False, na_values=dict.fromkeys(numbers, [""]))
    absent = {"run", "detection", "supervision", "ambiguous", *numbers} - set(frame)
    if absent:
        raise UserError(f"{path}: column {min(absent)!r} is missing; repeat the ambiguity stage")
    return frame.astype({"ambiguous": bool})


def best_pair(frame: pd.DataFrame, supervised: str) -> pd.DataFrame:
    """Novel instances that baseline and OPMask both found, of the deepest backbone, lowest seed.

    The paper's pictures are of R-101. Columns: those of `frame` that describe the instance, and,
    with the suffixes `_opmask` and `_baseline`, run, detection and MEASURES. Empty if no backbone
    and seed has both methods.
    """
    chosen = frame["supervised"].eq(supervised) & frame["supervision"].eq("novel")
    found = frame[chosen & frame["detection"].ge(0)]
    keys = ["backbone", "seed", "annotation_id"]
    left = found[found["method"] == OURS].drop(columns=["method", "score"])
    right = found.loc[found["method"] == BASELINE, [*keys, "run", "detection", *MEASURES]]
    both = left.merge(right, on=keys, suffixes=("_opmask", "_baseline"), validate="one_to_one")
    names = reversed(labels.shown_backbones(frame["backbone"].unique()))
    for backbone in sorted(names, key=lambda name: name not in labels.BACKBONES):
        paired = both[both["backbone"] == backbone]
        if len(paired):
            break
    return paired[paired["seed"] == paired["seed"].min()].reset_index(drop=True)


def at_quantiles(
    frame: pd.DataFrame, values: pd.Series, named: Mapping[str, float]
) -> pd.DataFrame:
    """The rows at fixed quantiles of their `values` (the nearest rank), with `pick` and `value`.

    Equal values go by image and annotation; a row is taken once, by its first name. A "largest
    loss" that is none is called "smallest gain", and a "largest gain" below zero "smallest loss".
    """
    frame = frame.assign(value=values).dropna(subset="value")
    keys = [key for key in ("value", "image_id", "annotation_id") if key in frame]
    ordered = frame.sort_values(keys).reset_index(drop=True)
    ranks = {name: int(np.floor(q * (len(ordered) - 1) + 0.5)) for name, q in named.items()}
    first = {rank: name for name, rank in reversed(ranks.items()) if len(ordered)}
    picked = ordered.loc[[rank for rank in dict.fromkeys(ranks.values()) if rank in first]]
    names = [first[rank] for rank in picked.index]
    other = {("largest loss", True): "smallest gain", ("largest gain", False): "smallest loss"}
    gains = picked["value"] >= 0
    picked.insert(0, "pick", [other.get((n, g), n) for n, g in zip(names, gains, strict=True)])
    return picked.reset_index(drop=True)


def box_of(row: Any) -> tuple[float, float, float, float]:
    """The xywh box of a pick."""
    return float(row.x), float(row.y), float(row.width), float(row.height)


def is_large(boxes: pd.DataFrame, images: Images) -> pd.Series:
    """Whether each box (image_id, width, height in pixels) is large enough to be looked at."""
    sides = [min(images[i]["width"], images[i]["height"]) for i in boxes["image_id"]]
    smallest = np.minimum(boxes["width"], boxes["height"])
    return smallest >= MIN_SIDE * np.array(sides, float)


def ambiguous_rois(frame: pd.DataFrame, images: Images) -> pd.DataFrame:
    """Figure 1: a row a picked instance, both directions; `value` is the gain in mask IoU.

    A direction without one has a row whose `pick` says why, the rest missing.
    """
    return _both_directions(frame, images, lambda pair: _gain(pair).where(pair["ambiguous"]))


def perforated_masks(frame: pd.DataFrame, images: Images) -> pd.DataFrame:
    """Figure 4: as `ambiguous_rois`; `value` is the baseline's perforation minus OPMask's."""

    def value(pair: pd.DataFrame) -> pd.Series:
        ours, theirs = pair["perforation_opmask"], pair["perforation_baseline"]
        return (theirs - ours).where((ours > 0) | (theirs > 0))

    return _both_directions(frame, images, value)


def _gain(pair: pd.DataFrame) -> pd.Series:
    return pair["mask_iou_opmask"] - pair["mask_iou_baseline"]


def _both_directions(
    frame: pd.DataFrame, images: Images, value: Callable[[pd.DataFrame], pd.Series]
) -> pd.DataFrame:
    """Of the large instances THREE by their `value`; those of which it is NaN are left out."""
    found = []
    for supervised in labels.DIRECTIONS:
        pair = best_pair(frame, supervised)
        picks = at_quantiles(pair, value(pair).where(is_large(pair, images)), THREE)
        if not len(picks):  # a row that says why
            why = "no such instance" if len(pair) else labels.NOT_RUN
            columns = ["pick", *pair.columns, "value"]
            picks = pd.DataFrame([{"pick": why, "supervised": supervised}], columns=columns)
        found.append(picks)
    return pd.concat(found, ignore_index=True).convert_dtypes()  # whole numbers stay so


def whole_images(frame: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Figures 5 (voc → non-voc) and 8 (the other way): a row a picked image.

    Columns: pick, image_id, instances (novel, found by both), the runs, the means of mask_iou of
    both methods, value (the mean gain).
    """
    pair = best_pair(frame, DIRECTION_OF[figure])
    runs = ["run_opmask", "run_baseline", "backbone", "supervised", "seed"]
    means = {name: (name, "mean") for name in ("mask_iou_opmask", "mask_iou_baseline")}
    by_image = pair.groupby(["image_id", *runs], as_index=False)
    images = by_image.agg(instances=("annotation_id", "size"), **means)
    several = images[images["instances"] >= 2]
    images = several if len(several) else images
    return at_quantiles(images, _gain(images), FIVE)


def by_size(data: Mapping[str, Any]) -> pd.DataFrame:
    """Figure 7: instances of a cleaned COCO json from small to large; `value` is the box's area.

    Columns: pick, image_id, annotation_id, category_id, x, y, width, height (pixels), value.
    """
    images = {image["id"]: image for image in data["images"]}
    rows = [
        (a["image_id"], a["id"], a["category_id"], *a["bbox"])
        for a in data["annotations"]
        if not a["iscrowd"] and "segmentation" in a
    ]
    columns = ["image_id", "annotation_id", "category_id", "x", "y", "width", "height"]
    frame = pd.DataFrame(rows, columns=columns)
    frame = frame[is_large(frame, images)]
    area = (frame["width"] * frame["height"]).astype(float)
    return at_quantiles(frame, area, SIZES)


def cam_runs(runs: Sequence[Run], trained: Path) -> dict[str, str]:
    """Figure 7: the key of the trained run that shows each method, "" if there is none.

    All classes supervised before one direction, R-50 before R-101, lowest seed first. `runs`
    are of the global schedule; `trained` is `runs/<scale>/train`.
    """
    order, names = ["all", "voc", "nonvoc"], labels.with_others(run.backbone for run in runs)
    there = [r for r in runs if r.supervised in order and (trained / r.key / WEIGHTS).is_file()]
    there.sort(key=lambda r: (order.index(r.supervised), names.index(r.backbone), r.seed))
    methods = ("fasterrcnn", BASELINE, OURS)
    return {m: next((run.key for run in there if run.method == m), "") for m in methods}
