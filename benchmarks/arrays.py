"""Two computations at COCO's size: mask targets of an image, and class overlap (Figure 3's x-axis).

tests/test_polygon_masks.py: ours and detectron2's targets are drawn alike. tests/test_overlap.py
compares overlap with a loop and, given them, times it on COCO's own boxes.
"""

from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd
import torch
from detectron2.structures import PolygonMasks

from benchmarks import timing
from opmask.data.polygon_masks import SharedPolygonMasks
from study.analysis.overlap import compute

# As in a training step with the paper's settings; an object is one polygon of POINTS points.
ROIS, POSITIVE, OBJECTS, POINTS, SIZE = 512, 128, 8, 24, 28
BOXES, IMAGES = 849_942, 117_266  # of train2017


def targets(options: Namespace) -> pd.DataFrame:
    """Mask targets of COCO's polygons: RoIs selected, the positive drawn, against detectron2."""
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
    return rows.reset_index().assign(rois=ROIS, positive=POSITIVE, objects=OBJECTS, repeats=repeats)


def overlap(options: Namespace) -> pd.DataFrame:
    """Class overlap of as many boxes as COCO has, at random; some images have many."""
    rng, repeats = np.random.default_rng(0), options.repeats or 3
    crowding = rng.gamma(1.5, size=IMAGES)
    image = np.sort(rng.choice(IMAGES, BOXES, p=crowding / crowding.sum()))
    centre, half = rng.uniform(0, 1, (BOXES, 2)), rng.beta(1, 6, (BOXES, 2)) / 2
    boxes, category = np.hstack([centre - half, centre + half]), rng.integers(1, 81, BOXES)
    rows = timing.interleaved({"overlap": partial(compute, boxes, image, category)}, repeats)
    return rows[["wall_s", "cpu_s"]].assign(data="random", boxes=BOXES, repeats=repeats)
