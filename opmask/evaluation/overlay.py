"""Draws detections over a picture: masks, boxes, classes, scores; and the priors as a heat map.

Boxes are `(n, 4)`: x0, y0, x1, y1 in pixels. Small pictures are enlarged so that their labels can
be read.
"""

from collections.abc import Mapping, Sequence

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Instances of one image: Okabe and Ito's colours, black left out.
INSTANCE_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#F0E442")
LONG_SIDE = 960  # pixels; smaller pictures are enlarged to it
TITLE_HEIGHT = 32  # pixels
_HEAT = 0.75  # weight of the heat map over the grey picture
_GREY = 0.5  # brightness of the grey picture

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


def overlay(
    picture: Picture, boxes: NDArray, labels: Sequence[str], masks: NDArray[np.bool_] | None = None
) -> Picture:
    """`picture` with the box and label of every detection, and its mask `(H, W)`, if any."""
    from detectron2.utils.visualizer import Visualizer  # seconds; figures need the colours alone

    # Enlarged first: detectron2 makes lines and letters as large as suits the picture.
    scale = max(1.0, LONG_SIDE / max(picture.shape[:2]))
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    visualizer = Visualizer(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))
    if len(boxes):
        colours = [matplotlib.colors.to_rgb(colour) for colour in INSTANCE_COLOURS]
        full = (mask.astype(np.uint8) for mask in (() if masks is None else masks))
        larger = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in full]
        visualizer.overlay_instances(
            boxes=scale * np.asarray(boxes, np.float64),
            labels=list(labels),
            masks=larger or None,
            assigned_colors=[colours[n % len(colours)] for n in range(len(boxes))],
            alpha=0.4,
        )
    return visualizer.get_output().get_image()


def heat_overlay(
    picture: Picture, boxes: NDArray, labels: Sequence[str], priors: NDArray
) -> Picture:
    """The grey picture with the prior of every detection, the larger where boxes overlap.

    priors: a map in [0, 1] a detection, `(n, h, w)`; it covers the detection's box.
    """
    heat, covered = heat_map(picture.shape[:2], boxes, priors)
    colours = matplotlib.colormaps["magma"](heat)[..., :3] * 255
    grey = np.repeat(_GREY * picture.mean(2, keepdims=True), 3, axis=2)
    mixed = np.where(covered[..., None], _HEAT * colours + (1 - _HEAT) * grey, grey)
    return overlay(mixed.astype(np.uint8), boxes, labels)


def heat_map(
    size: tuple[int, ...], boxes: NDArray, priors: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The maximum of the maps resized to their boxes, `(H, W)` in [0, 1], and where boxes are."""
    heat, covered = np.zeros(size, np.float32), np.zeros(size, bool)
    for (x0, y0, x1, y1), prior in zip(np.round(boxes).astype(int), priors, strict=True):
        left, top, right, bottom = max(0, x0), max(0, y0), min(size[1], x1), min(size[0], y1)
        if right <= left or bottom <= top:
            continue
        shape = (right - left, bottom - top)
        values = Image.fromarray(prior.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
        window = np.s_[top:bottom, left:right]
        heat[window] = np.maximum(heat[window], np.asarray(values))
        covered[window] = True
    return heat.clip(0, 1), covered


def side_by_side(pictures: Mapping[str, Picture]) -> Picture:
    """Pictures of one height beside each other, each under a line that is its key."""
    titled = []
    for title, picture in pictures.items():
        strip = np.full((TITLE_HEIGHT, picture.shape[1], 3), 255, np.uint8)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(strip, title, (8, TITLE_HEIGHT - 9), font, 0.7, (0, 0, 0), 1, cv2.LINE_AA)
        titled.append(np.concatenate([strip, picture]))
    return np.concatenate(titled, axis=1)
