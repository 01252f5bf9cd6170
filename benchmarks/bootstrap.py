"""Paired bootstrap over images of two runs: 1,000 resamples, 5,000 images, 80 classes.

Synthetic matches, of the size of val2017: 36,335 objects and 182,500 detections a run. Table 1
compares two runs on the classes outside `voc` and two on those outside `nonvoc`: 80 classes in all.
"""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from benchmarks import timing
from benchmarks.evaluator import common_and_rare, splits
from opmask.evaluation.bootstrap import paired_differences
from opmask.evaluation.coco_ap import Matches

IMAGES, OBJECTS, DETECTIONS, CLASSES, RESAMPLES = 5000, 36_335, 182_500, 80, 1000
# Which classes a comparison is made on, by the table or figure that makes it.
COMPARISONS = {"novel, both directions": ("nonvoc", "voc"), "all": ("all",)}


def synthetic(images: int, objects: int, detections: int, seed: int) -> Matches:
    """Matches of a run on the same ground truth whatever the `seed`."""
    truth, rng = np.random.default_rng(0), np.random.default_rng([1, seed])
    gt_category = common_and_rare(truth, objects) - 1
    gt_image = truth.integers(0, images, objects)
    category = np.sort(common_and_rare(rng, detections) - 1)
    score = rng.beta(1, 3, detections)
    order = np.lexsort((-score, category))
    # a detection's IoU with its object, if it has one: better for higher scores
    iou = rng.beta(3, 2, detections) * (rng.random(detections) < score)
    thresholds = np.linspace(0.5, 0.95, 10)
    matched = iou[:, None] > thresholds
    return Matches(
        image_ids=np.arange(1, images + 1),
        category_ids=np.arange(1, CLASSES + 1),
        iou_thresholds=thresholds,
        image=rng.integers(0, images, detections).astype(np.int32),
        category=category.astype(np.int32),
        score=score[order],
        matched=matched[order],
        ignored=np.zeros_like(matched),
        gt_image=gt_image.astype(np.int32),
        gt_category=gt_category.astype(np.int32),
    )


def measure(options: Namespace) -> pd.DataFrame:
    """One row a set of comparisons: medians."""
    a, b = (synthetic(IMAGES, OBJECTS, DETECTIONS, seed) for seed in (1, 2))
    ids, repeats = splits(), options.repeats or 3

    def compare(names: Sequence[str]) -> None:
        for name in names:
            paired_differences([a], [b], ids[name], resamples=RESAMPLES)

    actions = {label: partial(compare, names) for label, names in COMPARISONS.items()}
    seconds = timing.interleaved(actions, repeats, "bootstrap")
    rows = [{"classes": k, **seconds.median(k), "resamples": RESAMPLES} for k in actions]
    return pd.DataFrame(rows).assign(images=IMAGES, detections=DETECTIONS, repeats=repeats)
