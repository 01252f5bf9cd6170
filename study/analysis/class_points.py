"""The points of Figure 3: overlap and mask AP of every class (paper, section 4.2)."""

import numpy as np
import pandas as pd

from study.labels import BASELINE, DIFFERENCE, DIRECTIONS, OURS

MODELS = (BASELINE, OURS)
SUPERVISED_APS = {f"{model}_supervised": model for model in MODELS}
NOVELTY = {f"{model}_novelty": model for model in MODELS}
BACKBONE = "R50"  # the paper does not say which backbone its figure shows
# A baseline AP below this counts as this: no division by (nearly) zero where it misses a class.
RELATIVE_FLOOR = 1.0


def class_points(per_class: pd.DataFrame, overlap: pd.DataFrame, reading: str) -> pd.DataFrame:
    """Mean IoU and mask AP of every class.

    The two directions are joined, so each class has its novel AP from the run where it is novel.

    Args:
        per_class: of `results.read_per_class`, of runs of one schedule.
        overlap: of `overlap.class_overlap`.
        reading: one of `overlap.READINGS`.

    Returns:
        A row a class, in the order of `overlap`, AP in percent and mean over seeds:

        - category_id, category, supervised (the split where it is novel: voc | nonvoc), iou;
        - maskrcnn, opmask: novel AP; NaN for a model unless both directions were run;
        - maskrcnn_sd, opmask_sd: of it over seeds; seeds: of the model with fewer, 0 if not run;
        - difference: OPMask − Mask R-CNN; relative: difference / max(Mask R-CNN, RELATIVE_FLOOR);
        - maskrcnn_supervised, opmask_supervised: AP from the run where the class has masks;
        - maskrcnn_novelty, opmask_novelty: novel − supervised AP.
    """
    rows = per_class.query(
        "task == 'segm' and backbone == @BACKBONE and method in @MODELS and "
        "supervised in @DIRECTIONS"
    )
    novel, supervised = (rows[rows["supervision"] == s] for s in ("novel", "supervised"))
    ids = overlap["category_id"]
    splits = dict(zip(novel["category_id"], novel["supervised"], strict=True))
    points = overlap[["category_id", "category"]].assign(
        supervised=[splits.get(i, "") for i in ids], iou=overlap[reading]
    )
    aps = {model: _by_class(novel, model) for model in MODELS}
    for model, by_class in aps.items():
        points[model] = ids.map(by_class.mean()).astype(float)
        points[f"{model}_sd"] = ids.map(by_class.std()).astype(float)
    counts = [ids.map(by_class.count()).fillna(0).astype(int) for by_class in aps.values()]
    points["seeds"] = np.minimum(*counts)
    points[DIFFERENCE] = points[OURS] - points[BASELINE]
    points["relative"] = points[DIFFERENCE] / points[BASELINE].clip(lower=RELATIVE_FLOOR)
    for name, model in SUPERVISED_APS.items():
        points[name] = ids.map(_by_class(supervised, model).mean()).astype(float)
    for name, model in NOVELTY.items():
        points[name] = points[model] - points[f"{model}_supervised"]
    return points


def largest_relative(points: pd.DataFrame, count: int = 8) -> pd.DataFrame:
    """The classes of largest relative improvement, best first: those Figure 3 highlights."""
    better = points[points["relative"] > 0]
    return better.sort_values("relative", ascending=False, kind="stable").head(count)


def _by_class(rows: pd.DataFrame, model: str) -> pd.api.typing.SeriesGroupBy:
    """APs of `model` by class; none unless both directions were run, since half of the classes
    would be another regression than the paper's."""
    rows = rows[rows["method"] == model]
    if set(rows["supervised"]) < set(DIRECTIONS):
        rows = rows.iloc[:0]
    return rows.groupby("category_id")["AP"]
