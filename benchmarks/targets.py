"""Mask targets of one image at COCO's size: select 512 RoIs, then the positive ones, then draw.

As in a training step with the paper's settings: 8 objects, 128 positive RoIs, 28 by 28 pixels. An
object has 1.2 polygons of 24 points on average. tests/test_polygon_masks.py: both draw alike.
"""

from functools import partial

import numpy as np
import pandas as pd
import torch
from detectron2.structures import PolygonMasks

from benchmarks import timing
from benchmarks.options import Options
from opmask.data.polygon_masks import SharedPolygonMasks

ROIS, POSITIVE, OBJECTS, POINTS, SIZE = 512, 128, 8, 24, 28


def measure(options: Options) -> pd.DataFrame:
    """One row a way: median milliseconds an image, and the ratio to ours."""
    repeats = options.times(51)
    polygons, matched, boxes = _image(np.random.default_rng(0))
    ways = {"ours": SharedPolygonMasks(polygons), "detectron2": PolygonMasks(polygons)}
    actions = {name: partial(_draw, masks, matched, boxes) for name, masks in ways.items()}
    seconds = timing.interleaved(actions, repeats, "targets")
    rows = [
        {
            "way": name,
            "ms": 1000 * seconds.median(name)["wall_s"],
            "ratio": seconds.ratio(name, "ours")["ratio"],
        }
        for name in ways
    ]
    return pd.DataFrame(rows).assign(rois=ROIS, positive=POSITIVE, objects=OBJECTS, repeats=repeats)


def _draw(masks: PolygonMasks, matched: torch.Tensor, boxes: torch.Tensor) -> None:
    masks[matched][torch.arange(POSITIVE)].crop_and_resize(boxes, SIZE)


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
