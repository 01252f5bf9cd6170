"""Draws detections over a picture: masks, boxes, classes, scores; and the priors as a heat map.

Shapes come as COCO results (boxes xywh in pixels, masks RLE). Small pictures are enlarged so that
their labels can be read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_util

# Instances of one image: Okabe and Ito's colours, black left out.
INSTANCE_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#F0E442")
LONG_SIDE = 960  # pixels; smaller pictures are enlarged to it
_HEAT = 0.75  # weight of the heat map over the grey picture
_GREY = 0.5  # brightness of the grey picture

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Detections = Sequence[Mapping[str, Any]]  # COCO results of one image


def overlay(picture: Picture, detections: Detections, names: Sequence[str]) -> Picture:
    """`picture` with every detection's mask (if it has one), box, class name and score.

    names: the class name of each detection.
    """
    masks = None
    if detections and "segmentation" in detections[0]:
        masks = [mask_util.decode(d["segmentation"]) for d in detections]
    return _draw(picture, detections, names, masks)


def heat_overlay(
    picture: Picture, detections: Detections, names: Sequence[str], priors: NDArray
) -> Picture:
    """The grey picture with the prior of every detection, the larger where boxes overlap.

    priors: a map in [0, 1] a detection, `(N, h, w)`; it covers the detection's box.
    """
    heat, covered = heat_map(picture.shape[:2], [d["bbox"] for d in detections], priors)
    colours = matplotlib.colormaps["magma"](heat)[..., :3] * 255
    grey = np.repeat(_GREY * picture.mean(2, keepdims=True), 3, axis=2)
    mixed = np.where(covered[..., None], _HEAT * colours + (1 - _HEAT) * grey, grey)
    return _draw(mixed.astype(np.uint8), detections, names, None)


def heat_map(
    size: tuple[int, int], boxes: Sequence[Sequence[float]], priors: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The maximum of the maps resized to their boxes, `(H, W)` in [0, 1], and where boxes are."""
    heat, covered = np.zeros(size, np.float32), np.zeros(size, bool)
    for (x, y, w, h), prior in zip(boxes, priors, strict=True):
        left, top = max(0, round(x)), max(0, round(y))
        right, bottom = min(size[1], round(x + w)), min(size[0], round(y + h))
        if right <= left or bottom <= top:
            continue
        shape = (right - left, bottom - top)
        values = Image.fromarray(prior.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)
        window = np.s_[top:bottom, left:right]
        heat[window] = np.maximum(heat[window], np.asarray(values))
        covered[window] = True
    return heat.clip(0, 1), covered


def _draw(
    picture: Picture, detections: Detections, names: Sequence[str], masks: list[NDArray] | None
) -> Picture:
    """Enlarged first: detectron2 makes lines and letters as large as suits the picture."""
    from detectron2.utils.visualizer import Visualizer  # seconds; figures need the colours alone

    scale = max(1.0, LONG_SIDE / max(picture.shape[:2]))
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    visualizer = Visualizer(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))
    if detections:
        corners = [(x, y, x + w, y + h) for x, y, w, h in (d["bbox"] for d in detections)]
        colours = [matplotlib.colors.to_rgb(colour) for colour in INSTANCE_COLOURS]
        visualizer.overlay_instances(
            boxes=scale * np.array(corners),
            labels=[f"{n} {d['score']:.2f}" for n, d in zip(names, detections, strict=True)],
            masks=masks and [cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in masks],
            assigned_colors=[colours[n % len(colours)] for n in range(len(detections))],
            alpha=0.4,
        )
    return visualizer.get_output().get_image()
