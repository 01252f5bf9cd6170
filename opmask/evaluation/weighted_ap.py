"""AP of weighted images: the accumulation of precision and recall that a bootstrap repeats.

An image of weight 2 counts as if it were there twice. It is never duplicated: COCOeval drops
repeated image ids, which makes standard errors too small.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from opmask.evaluation.coco_ap import Matches

# What matches at area=all tell, by IoU threshold (None: the mean over all of them). APs, APm and
# APl would need matches of their own, for which ground truth of another size counts neither way.
METRICS = {"AP": None, "AP50": 0.5, "AP75": 0.75}
RECALLS = np.linspace(0, 1, 101)
_BOUNDS = np.append(RECALLS, np.inf)
_CHUNK_ELEMENTS = 1 << 20  # float64 of one work array: 8 MiB


def weighted_metrics(
    matches: Matches, weights: NDArray, category_ids: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Each of METRICS of each class with weighted images, in percent.

    With all weights 1 these are the numbers of `Evaluation.per_class`; with whole weights they are
    COCOeval's on images duplicated that often. Detections of one image and class with equal scores
    are the one exception: here the copies of each stay together, there the copies of the image do.

    Args:
        matches: one run.
        weights: (B, n_images), not negative, columns as `matches.image_ids`.
        category_ids: dataset ids, in the order wanted; None for all.

    Returns:
        (len(METRICS), B, n_categories); NaN where no object of the class has weight, and for a
        metric at an IoU threshold that was not measured.

    Raises:
        ValueError: weights of the wrong shape or negative, or an unknown category id.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(matches.image_ids) or (weights < 0).any():
        raise ValueError(
            f"weights of shape {weights.shape}: allowed is (resamples, {len(matches.image_ids)} "
            "images), without negative values"
        )
    wanted = matches.category_ids if category_ids is None else np.asarray(category_ids, np.int64)
    unknown = np.setdiff1d(wanted, matches.category_ids)
    if len(unknown) or not len(wanted):
        raise ValueError(f"category_ids {category_ids}: unknown {unknown.tolist()}, one or more")
    classes = np.searchsorted(matches.category_ids, wanted)
    # NumPy works without the interpreter's lock; each thread takes some 100 MiB
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda k: _class_metrics(matches, k, weights), classes))
    return np.stack(found, axis=-1)


def _class_metrics(matches: Matches, k: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """METRICS of class index k, (len(METRICS), B), over chunks of resamples so that memory stays
    bounded."""
    rows = slice(*np.searchsorted(matches.category, [k, k + 1]))
    image, matched, ignored = matches.image[rows], matches.matched[rows], matches.ignored[rows]
    objects = np.bincount(
        matches.gt_image[matches.gt_category == k], minlength=len(matches.image_ids)
    )
    object_weight = weights @ objects
    step = max(1, _CHUNK_ELEMENTS // max(1, len(image)))
    found = np.zeros((len(matches.iou_thresholds), len(weights)))
    for start in range(0, len(weights), step):
        chunk = slice(start, start + step)
        drawn = weights[chunk].take(image, axis=1)  # (chunk, D)
        ranks = drawn.cumsum(axis=1)
        for ap, hit, skip in zip(found, matched.T, ignored.T, strict=True):
            ap[chunk] = _threshold_ap(drawn, ranks, hit, skip, object_weight[chunk])
    by_threshold = np.where(object_weight > 0, 100 * found, np.nan)
    aps = dict(zip(matches.iou_thresholds.round(6), by_threshold, strict=True))
    aps[None], nothing = by_threshold.mean(axis=0), np.full(len(weights), np.nan)
    return np.stack([aps.get(threshold, nothing) for threshold in METRICS.values()])


def _threshold_ap(
    drawn: NDArray[np.float64],
    ranks: NDArray[np.float64],
    hit: NDArray[np.bool_],
    skip: NDArray[np.bool_],
    object_weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AP at one IoU threshold, (B,), from weights of detections (B, D) and their running sums.

    Interpolated precision is read at 101 recalls; the first detection to reach a recall is always
    a true positive. So only those are looked at, each with the number of recalls it reaches first.
    """
    right = np.flatnonzero(hit & ~skip)
    if not len(right):
        return np.zeros(len(drawn))
    skipped = np.flatnonzero(skip)
    true = drawn.take(right, axis=1).cumsum(axis=1)
    seen = ranks.take(right, axis=1)
    if len(skipped):
        before = drawn.take(skipped, axis=1).cumsum(axis=1)
        before = np.concatenate([np.zeros((len(drawn), 1)), before], axis=1)
        seen -= before.take(np.searchsorted(skipped, right), axis=1)
    precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = true / np.where(object_weight > 0, object_weight, 1)[:, None]
    first = np.diff(recalls_reached(recall), axis=1, prepend=0)
    return np.einsum("bd,bd->b", envelope, first) / len(RECALLS)


def recalls_reached(recall: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many of RECALLS are at or below each `recall`: np.searchsorted(RECALLS, recall, "right").

    Evenly spaced as they are, only rounding needs a look: at the two nearest. Twice as fast.
    """
    count = (np.minimum(recall, 1) * (len(RECALLS) - 1)).astype(np.intp)
    return count + (_BOUNDS.take(count) <= recall) + (_BOUNDS.take(count + 1) <= recall)
