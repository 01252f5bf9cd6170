"""Mask targets of one image at COCO's size: select 512 RoIs, then the positive ones, then draw.

As in a training step with the paper's settings: 8 objects, 128 positive RoIs, 28 by 28 pixels. An
object is one polygon of 24 points. tests/test_polygon_masks.py: both draw alike.
"""

from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd
import torch
from detectron2.structures import PolygonMasks

from benchmarks import timing
from opmask.data.polygon_masks import SharedPolygonMasks

ROIS, POSITIVE, OBJECTS, POINTS, SIZE = 512, 128, 8, 24, 28


def targets(options: Namespace) -> pd.DataFrame:
    """Mask targets of COCO's polygons of an image, against detectron2's loop."""
    rng, repeats = np.random.default_rng(0), options.repeats or 51
    corner, side = rng.uniform(0, 500, (OBJECTS, 2)), rng.uniform(30, 300, (OBJECTS, 2))
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    wobble = rng.uniform(0.8, 1, (OBJECTS, POINTS, 1)) / 2
    circle = 0.5 + np.stack([np.cos(angle), np.sin(angle)], axis=1) * wobble
    polygons = [[points.ravel()] for points in corner[:, None] + side[:, None] * circle]
    matched = rng.integers(0, OBJECTS, ROIS)
    near = np.hstack([corner, corner + side])[matched[:POSITIVE]]
    boxes = torch.from_numpy(near + rng.uniform(-10, 10, near.shape)).float()

    def draw(masks: PolygonMasks) -> None:
        masks[torch.from_numpy(matched)][torch.arange(POSITIVE)].crop_and_resize(boxes, SIZE)

    ways = {"ours": SharedPolygonMasks(polygons), "detectron2": PolygonMasks(polygons)}
    rows = timing.interleaved({k: partial(draw, masks) for k, masks in ways.items()}, repeats)
    sizes = {"rois": ROIS, "positive": POSITIVE, "objects": OBJECTS}
    return rows.reset_index().assign(**sizes, repeats=repeats)
