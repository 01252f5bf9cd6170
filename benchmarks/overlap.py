"""Class overlap of all of COCO's boxes (Figure 3's x-axis), against a plain loop over images.

`--coco-boxes FILE`: an npz with `image_id`, `category_id` and `cxcywh_normalised` (N, 4). Without
it, boxes drawn at random: as many, on as many images, as train2017 has.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import timing
from opmask.errors import UserError
from study.analysis.overlap import READINGS, compute

BOXES, IMAGES = 849_942, 117_266

Arrays = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def load(path: Path) -> Arrays:
    """Boxes (N, 4) x0 y0 x1 y1, image ids, category ids; UserError if the file is not such."""
    path = path / "boxes_train2017.npz" if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as file:
            boxes = file["cxcywh_normalised"].astype(np.float64)
            ids = file["image_id"], file["category_id"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"--coco-boxes: {path}: {error}") from error
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.hstack([centre - half, centre + half]), *ids


def synthetic(boxes: int = BOXES, images: int = IMAGES, seed: int = 0) -> Arrays:
    """As `load`, at random; some images have many boxes, as in COCO."""
    rng = np.random.default_rng(seed)
    crowding = rng.gamma(1.5, size=images)
    image = np.sort(rng.choice(images, boxes, p=crowding / crowding.sum()))
    centre, half = rng.uniform(0, 1, (boxes, 2)), rng.beta(1, 6, (boxes, 2)) / 2
    return np.hstack([centre - half, centre + half]), image, rng.integers(1, 81, boxes)


def plain(boxes: NDArray, image_ids: NDArray, category_ids: NDArray) -> pd.DataFrame:
    """What `overlap.compute` does, image by image: the same columns but the counts."""
    classes, category = np.unique(category_ids, return_inverse=True)
    sums = {name: np.zeros(len(classes)) for name in READINGS}
    counts = {name: np.zeros(len(classes)) for name in READINGS}
    order = np.argsort(image_ids, kind="stable")
    for image in np.split(order, np.flatnonzero(np.diff(image_ids[order])) + 1):
        for name, (total, count) in _image(boxes[image], category[image]).items():
            np.add.at(sums[name], category[image], total)
            np.add.at(counts[name], category[image], count)
    with np.errstate(invalid="ignore"):
        means = {name: sums[name] / counts[name] for name in READINGS}
    return pd.DataFrame({"category_id": classes, **means})


def _image(boxes: NDArray, category: NDArray) -> dict[str, tuple[NDArray, NDArray | int]]:
    """Of every reading: each box's sum and count."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area[:, None] + area - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    np.fill_diagonal(iou, 0)
    other = category[:, None] != category
    apart = iou * other
    return {
        "other_class": (apart.sum(1), (apart > 0).sum(1)),
        "other_class_pairs": (apart.sum(1), other.sum(1)),
        "any_overlapping": (iou.sum(1), (iou > 0).sum(1)),
        "all_pairs": (iou.sum(1), len(boxes) - 1),
        "max_other_class": (apart.max(1), 1),
        "max": (iou.max(1), 1),
    }


def measure(options: Namespace) -> pd.DataFrame:
    """One row: seconds of both, and their ratio; ValueError if they differ."""
    arrays = load(options.coco_boxes) if options.coco_boxes else synthetic()
    repeats = options.repeats or 3
    found, wanted, row = timing.against(
        "loop", partial(compute, *arrays), partial(plain, *arrays), repeats
    )
    gap = np.nanmax(np.abs(found[list(READINGS)] - wanted[list(READINGS)]))
    if not gap < 1e-9:
        raise ValueError(f"overlap: the loop's means differ by up to {gap}")
    about = {"data": "given" if options.coco_boxes else "random", "boxes": len(arrays[0])}
    return pd.DataFrame([{**about, **row, "largest_difference": gap, "repeats": repeats}])
