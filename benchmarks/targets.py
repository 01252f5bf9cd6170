"""Mask targets of one image at COCO's size: select 512 RoIs, then the positive ones, then draw.

As in a training step with the paper's settings: 8 objects, 128 positive RoIs, 28 by 28 pixels. An
object has 1.2 polygons of 24 points on average. tests/test_polygon_masks.py: both draw alike.
"""

from argparse import Namespace

import numpy as np
import pandas as pd
import torch
from detectron2.structures import PolygonMasks

from benchmarks import timing
from opmask.data.polygon_masks import SharedPolygonMasks

ROIS, POSITIVE, OBJECTS, POINTS, SIZE = 512, 128, 8, 24, 28


def measure(options: Namespace) -> pd.DataFrame:
    """One row: seconds an image of both."""
    repeats = options.repeats or 51
    polygons, matched, boxes = _image(np.random.default_rng(0))

    def draw(masks: PolygonMasks) -> torch.Tensor:
        return masks[matched][torch.arange(POSITIVE)].crop_and_resize(boxes, SIZE)

    shared, own = SharedPolygonMasks(polygons), PolygonMasks(polygons)
    *_, row = timing.against("detectron2", lambda: draw(shared), lambda: draw(own), repeats)
    sizes = {"rois": ROIS, "positive": POSITIVE, "objects": OBJECTS}
    return pd.DataFrame([{**row, **sizes, "repeats": repeats}])


def _image(
    rng: np.random.Generator,
) -> tuple[list[list[np.ndarray]], torch.Tensor, torch.Tensor]:
    """Polygons by object, the object of each RoI, and boxes of the positive ones."""
    corners = rng.uniform(0, 500, (OBJECTS, 2))
    sides = rng.uniform(30, 300, (OBJECTS, 2))
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle = 0.5 + np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2
    polygons = []
    for corner, side in zip(corners, sides, strict=True):
        parts = 1 + (rng.random() < 0.2)
        wobble = rng.uniform(0.8, 1, (parts, POINTS, 1))
        polygons.append([(corner + side * circle * w).ravel() for w in wobble])
    matched = rng.integers(0, OBJECTS, ROIS)
    low, size = corners[matched[:POSITIVE]], sides[matched[:POSITIVE]]
    jitter = rng.uniform(-0.1, 0.1, (2, POSITIVE, 2)) * size
    boxes = np.hstack([low + jitter[0], low + size + jitter[1]])
    return polygons, torch.from_numpy(matched), torch.from_numpy(boxes).float()
