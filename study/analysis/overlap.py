"""Class overlap: the x-axis of Figure 3 (paper, section 4.2).

The paper: "To approximate the overlap between classes we compute the IoU of all ground-truth
bounding boxes in the COCO dataset. Afterwards, we compute a regression between the mean IoU of
each class and its mask AP." It leaves open over which pairs the mean goes. So all plausible
readings are computed, each from the boxes b of a class and their partners o, the other boxes of
the same image. A pair of two boxes of one class counts from both its ends. Crowds take no part.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from opmask.data.streaming import read_blocks
from opmask.errors import UserError

READINGS = {
    "other_class": "pairs with a box of another class, where they overlap (IoU > 0)",
    "other_class_pairs": "all pairs with a box of another class, apart ones (IoU 0) included",
    "any_overlapping": "pairs with any box, where they overlap (IoU > 0)",
    "all_pairs": "all pairs with any box, apart ones (IoU 0) included",
    "max_other_class": "boxes, each with its largest IoU with a box of another class (or 0)",
    "max": "boxes, each with its largest IoU with any other box (or 0)",
}  # a class's mean IoU is the mean over …

_CHUNK_PAIRS = 1 << 15  # float64 of one work array: 256 KiB, small enough for the cache
# Sums over the partners of one box, then their number, for each mean over pairs.
_PAIR_MEANS = ("other_class", "other_class_pairs", "any_overlapping", "all_pairs")


def compute(boxes: ArrayLike, image_ids: ArrayLike, category_ids: ArrayLike) -> pd.DataFrame:
    """Mean IoU of every class with the boxes around it, under every reading.

    Args:
        boxes: (N, 4) x0 y0 x1 y1, in any unit that is the same for the boxes of an image. A box
            without area has IoU 0 with every other.
        image_ids, category_ids: (N,) integers.

    Returns:
        One row a class that occurs, by id: category_id, instances (boxes), and one column a name
        in READINGS, in [0, 1]; NaN where the class has no such pair.

    Raises:
        ValueError: lengths differ.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    image_ids, category_ids = np.asarray(image_ids), np.asarray(category_ids)
    if not len(boxes) == len(image_ids) == len(category_ids):
        raise ValueError(f"{len(boxes)} boxes, {len(image_ids)} images, {len(category_ids)} ids")
    classes, category = np.unique(category_ids, return_inverse=True)
    per_box = _per_box(boxes, image_ids, category)
    sums = {n: np.bincount(category, v, len(classes)) for n, v in per_box.items()}
    instances = np.bincount(category, minlength=len(classes))
    frame = pd.DataFrame({"category_id": classes, "instances": instances})
    for reading in READINGS:
        counts, empty = sums.get(f"{reading} count", instances), np.full(len(classes), np.nan)
        frame[reading] = np.divide(sums[reading], counts, out=empty, where=counts > 0)
    return frame


def _per_box(
    boxes: NDArray[np.float64], image_ids: NDArray, category: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """For each box and reading (N,): the sum of IoUs over its pairs and their number, or the
    largest IoU."""
    names = [*READINGS, *(f"{reading} count" for reading in _PAIR_MEANS)]
    found = {name: np.zeros(len(boxes)) for name in names}
    for rows, partners, diagonal in _blocks(image_ids):
        iou = _iou(boxes[rows], boxes[partners])
        iou[:, np.arange(rows.shape[1]), diagonal] = 0  # no box is its own partner
        other = category[rows][:, :, None] != category[partners][:, None, :]
        apart = iou * other
        size = iou.shape[2]
        found["all_pairs"][rows] = found["any_overlapping"][rows] = iou.sum(axis=2)
        found["all_pairs count"][rows] = size - 1
        found["any_overlapping count"][rows] = np.count_nonzero(iou, axis=2)
        found["other_class"][rows] = found["other_class_pairs"][rows] = apart.sum(axis=2)
        found["other_class count"][rows] = np.count_nonzero(apart, axis=2)
        found["other_class_pairs count"][rows] = np.count_nonzero(other, axis=2)
        found["max"][rows] = iou.max(axis=2)
        found["max_other_class"][rows] = apart.max(axis=2)
    return found


def _blocks(image_ids: NDArray) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Blocks of about _CHUNK_PAIRS pairs of boxes that share an image, together all such pairs.

    Images with equally many boxes n go together, so that a block is a dense array without padding.
    Yields box indices rows (m, r) and partners (m, n), m images each, and for each of the r rows
    the column (r,) where it meets itself. Images with a single box have no pair and are left out.
    """
    order = np.argsort(image_ids, kind="stable")
    _, start, count = np.unique(image_ids[order], return_index=True, return_counts=True)
    for n in np.unique(count[count > 1]):
        members = order[start[count == n][:, None] + np.arange(n)]  # (images, n)
        images = max(1, _CHUNK_PAIRS // n**2)
        step = max(1, _CHUNK_PAIRS // (images * n))  # below n only in a huge image
        for first in range(0, len(members), images):
            partners = members[first : first + images]
            for row in range(0, n, step):
                yield (partners[:, row : row + step], partners, np.arange(row, min(row + step, n)))


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of every box of a (m, r, 4) with every box of b (m, n, 4): (m, r, n)."""
    # contiguous coordinate planes: numpy works along the last axis
    a = np.moveaxis(a, 2, 0).copy()[..., :, None]
    b = np.moveaxis(b, 2, 0).copy()[..., None, :]
    width, height = (np.minimum(a[k + 2], b[k + 2]) for k in (0, 1))
    width -= np.maximum(a[0], b[0])
    height -= np.maximum(a[1], b[1])
    shared = np.maximum(width, 0, out=width)
    shared *= np.maximum(height, 0, out=height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    union -= shared
    return np.divide(shared, union, out=shared, where=union > 0)


def class_overlap(annotations: Path) -> pd.DataFrame:
    """`compute` on the boxes of a COCO json, crowds left out.

    Columns: category_id, category, instances, and the READINGS; one row a class of the data set, by
    id, with NaN where a class has no box or no pair.
    """
    columns: dict[str, list[NDArray]] = {"bbox": [], "image_id": [], "category_id": []}
    categories = pd.DataFrame(columns=["id", "name"])
    for key, records in read_blocks(annotations):
        if key == "categories":
            categories = pd.DataFrame(records)[["id", "name"]].sort_values("id")
        elif key == "annotations":
            objects = [record for record in records if not record.get("iscrowd", 0)]
            for name, parts in columns.items():
                parts.append(np.array([record[name] for record in objects]))
    boxes, *ids = (np.concatenate(parts or [np.zeros(0, int)]) for parts in columns.values())
    boxes = boxes.reshape(-1, 4).astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    found = compute(boxes, *ids)
    names = categories.rename(columns={"id": "category_id", "name": "category"})
    frame = names.merge(found, on="category_id", how="left")
    return frame.assign(instances=frame["instances"].fillna(0).astype(int))


def load(path: Path) -> pd.DataFrame:
    """The frame of `class_overlap` from the csv of the overlap stage.

    Raises UserError if the file is missing or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the `overlap` stage first")
    # only the means may be missing: a class may well be called "NA"
    missing = dict.fromkeys(READINGS, ["", "nan", "NaN"])
    frame = pd.read_csv(path, keep_default_na=False, na_values=missing)
    absent = [c for c in ("category_id", "category", "instances", *READINGS) if c not in frame]
    if absent:
        raise UserError(f"{path}: column {absent[0]!r} is missing; repeat the `overlap` stage")
    return frame
