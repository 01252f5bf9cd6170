"""Class overlap (Figure 3's x-axis) at the size of COCO.

tests/test_overlap.py compares it with a loop and, given them, times it on COCO's own boxes.
"""

from argparse import Namespace
from functools import partial

import numpy as np
import pandas as pd

from benchmarks import timing
from study.analysis.overlap import compute

BOXES, IMAGES = 849_942, 117_266  # of train2017


def overlap(options: Namespace) -> pd.DataFrame:
    """Class overlap of as many boxes as COCO has, at random; some images have many."""
    rng, repeats = np.random.default_rng(0), options.repeats or 3
    crowding = rng.gamma(1.5, size=IMAGES)
    image = np.sort(rng.choice(IMAGES, BOXES, p=crowding / crowding.sum()))
    centre, half = rng.uniform(0, 1, (BOXES, 2)), rng.beta(1, 6, (BOXES, 2)) / 2
    boxes, category = np.hstack([centre - half, centre + half]), rng.integers(1, 81, BOXES)
    rows = timing.interleaved({"overlap": partial(compute, boxes, image, category)}, repeats)
    return rows[["wall_s", "cpu_s"]].assign(data="random", boxes=BOXES, repeats=repeats)
