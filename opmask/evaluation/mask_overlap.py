"""How well masks lie on their objects, one by one: mask IoU and Boundary IoU.

Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", eq. 2) is the IoU of the parts of both masks that lie within a distance of their own
outlines. As in its authors' code, the distance is 2 % of the image's diagonal, one pixel at least,
counted in steps of 3 x 3 erosion, and what an image's border cuts is outline too. On an object
no thicker than twice that distance it equals mask IoU.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from opmask.data.shapes import Segmentation

BOUNDARY = 0.02  # of the image's diagonal

IDENTITY = ["image_id", "annotation_id", "category_id", "area"]

Masks = NDArray[np.bool_]  # (N, H, W)
Objects = Sequence[Mapping[str, Any]]  # annotations of a cleaned COCO json


def objects_with_masks(data: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    """The annotations of a cleaned COCO json that have a mask, by image id; crowds left out."""
    found = defaultdict(list)
    for annotation in data["annotations"]:
        if not annotation["iscrowd"] and "segmentation" in annotation:
            found[annotation["image_id"]].append(annotation)
    return found


def identity(objects: Objects) -> pd.DataFrame:
    """IDENTITY of objects, a row each; area is COCO's, in pixels of the image."""
    keys = ["image_id", "id", "category_id", "area"]
    return pd.DataFrame([[one[key] for key in keys] for one in objects], columns=IDENTITY)


def decode(shapes: Sequence[Segmentation], size: tuple[int, int]) -> Masks:
    """Polygons or RLEs of any kind on an image of `(height, width)`, as `(N, height, width)`."""
    drawn = np.zeros((len(shapes), *size), bool)
    for mask, shape in zip(drawn, shapes, strict=True):
        found: Any = shape
        if isinstance(shape, list) or isinstance(shape["counts"], list):
            found = mask_util.frPyObjects(shape, *size)
        mask[:] = mask_util.decode(mask_util.merge(found) if isinstance(shape, list) else found)
    return drawn


def iou(a: Masks, b: Masks) -> NDArray[np.float64]:
    """IoU of each of `a` with the one of `b`, `(N,)`; 0 where both are empty."""
    both, either = ((a & b).sum((1, 2)), (a | b).sum((1, 2)))
    return both / np.maximum(either, 1)


def boundary_iou(a: Masks, b: Masks) -> NDArray[np.float64]:
    """Boundary IoU of each of `a` with the one of `b`, `(N,)`."""
    return iou(boundary(a), boundary(b))


def boundary(masks: Masks) -> Masks:
    """The pixels of each mask that lie within the distance of its outline."""
    steps = max(1, round(BOUNDARY * float(np.hypot(*masks.shape[1:]))))
    kernel, found = np.ones((3, 3), np.uint8), masks.copy()
    for own, mask in zip(found, masks, strict=True):
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))  # what is outside changes nothing
        if w:
            window = np.s_[y : y + h, x : x + w]
            padded = np.pad(mask[window].astype(np.uint8), 1)
            own[window] &= cv2.erode(padded, kernel, iterations=steps)[1:-1, 1:-1] == 0
    return found


def overlaps(masks: Masks, truths: Masks) -> Mapping[str, NDArray[np.float64]]:
    """The columns `iou` and `boundary_iou` of a table of instances."""
    return {"iou": iou(masks, truths), "boundary_iou": boundary_iou(masks, truths)}
