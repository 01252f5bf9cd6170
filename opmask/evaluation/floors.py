"""Masks that need no model: what a mask head has to beat in the same boxes.

Of a box alone: all of it, and the ellipse inscribed in it. Of a box and the training masks: the
mean mask of the supervised classes, in coordinates of the box, where it reaches 0.5. None sees the
image, and none a mask of a novel class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.evaluation.mask_overlap import (
    IDENTITY,
    Masks,
    decode,
    identity,
    objects_with_masks,
    overlaps,
)

FLOORS = ("box", "ellipse", "mean mask")
CELLS = 56  # of the mean mask, a side: twice the mask head's


def mean_mask(dicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """How often a place in the box is the object's, `(CELLS, CELLS)` in [0, 1].

    dicts: of `opmask.data.coco.load_training_dicts`, whose only masks are those of supervised
    classes. A cell is looked up at its centre. Zeros if there is no mask.
    """
    total, count = np.zeros((CELLS, CELLS)), 0
    for record in dicts:
        size = record["height"], record["width"]
        taught = [one for one in record["annotations"] if "segmentation" in one]
        masks = decode([one["segmentation"] for one in taught], size)
        for mask, one in zip(masks, taught, strict=True):
            total += mask[np.ix_(*(_cells(one["bbox"], axis, size) for axis in (1, 0)))]
        count += len(taught)
    return total / max(count, 1)


def _cells(box: Sequence[float], axis: int, size: tuple[int, int]) -> NDArray[np.intp]:
    """The pixels in which the centres of the cells lie, on one axis (0: x); (CELLS,)."""
    at = box[axis] + box[axis + 2] * (np.arange(CELLS) + 0.5) / CELLS
    return np.clip(np.floor(at), 0, size[1 - axis] - 1).astype(np.intp)


def floor_masks(
    boxes: Sequence[Sequence[float]], size: tuple[int, int], mean: NDArray[np.float64]
) -> dict[str, Masks]:
    """FLOORS in xywh `boxes` on an image of `(height, width)`, each `(N, height, width)`.

    A pixel belongs to a mask by its centre. mean: of `mean_mask`.
    """
    shape = (len(boxes), *size)
    found = {name: np.zeros(shape, bool) for name in FLOORS}
    for n, (x, y, w, h) in enumerate(boxes):
        u, v = (np.arange(size[1]) + 0.5 - x) / w, (np.arange(size[0]) + 0.5 - y) / h
        columns, rows = (np.flatnonzero((at >= 0) & (at < 1)) for at in (u, v))
        u, v, window = u[columns], v[rows, None], np.ix_(np.array([n]), rows, columns)
        found["box"][window] = True
        found["ellipse"][window] = (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1
        cells = ((CELLS * at).astype(np.intp) for at in (v, u))
        found["mean mask"][window] = mean[tuple(cells)] >= 0.5
    return found


def measure_floors(data: Mapping[str, Any], mean: NDArray[np.float64]) -> pd.DataFrame:
    """A row a floor and object of `data`, a cleaned COCO json, `mean` being of `mean_mask`.

    Columns: those of `identity`; floor, iou and boundary_iou, as of a run's masks.
    """
    objects = objects_with_masks(data)
    frames = [pd.DataFrame(columns=[*IDENTITY, "floor", "iou", "boundary_iou"])]
    for image in data["images"]:
        own, size = objects.get(image["id"], []), (image["height"], image["width"])
        true = decode([one["segmentation"] for one in own], size)
        frames += [
            identity(own).assign(floor=name, **overlaps(masks, true))
            for name, masks in floor_masks([one["bbox"] for one in own], size, mean).items()
            if own
        ]
    return pd.concat(frames[1:] or frames, ignore_index=True)
