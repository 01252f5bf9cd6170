"""A trained run applied to single image files, with the evaluation's own code and settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from opmask.data.loader import read_image
from opmask.evaluation.inference import TestImages, load_model
from opmask.evaluation.priors import image_maps
from opmask.evaluation.rois import Roi
from opmask.evaluation.trained import Trained


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, the highest score first."""

    picture: NDArray[np.uint8]  # (H, W, 3) RGB, upright
    detections: list[dict[str, Any]]  # COCO results with the data set's category ids
    names: list[str]  # class name of each detection
    priors: NDArray[np.float32] | None = None  # (N, 28, 28) in [0, 1]

    @property
    def size(self) -> dict[str, int]:
        """`height` and `width` in pixels, as in a COCO json."""
        height, width = self.picture.shape[:2]
        return {"height": height, "width": width}

    def masks(self) -> Iterator[tuple[str, float, NDArray[np.uint8]]]:
        """Class name, score and mask, `(H, W)` of 0 and 1, of every detection."""
        for name, found in zip(self.names, self.detections, strict=True):
            yield name, found["score"], mask_util.decode(found["segmentation"])

    def overlay(self) -> NDArray[np.uint8]:
        """The drawn picture, `(H', W', 3)` RGB; the priors' heat map, if any, to its right."""
        from opmask.evaluation.overlay import heat_overlay, overlay

        drawn = overlay(self.picture, self.detections, self.names)
        if self.priors is None:
            return drawn
        heat = heat_overlay(self.picture, self.detections, self.names, self.priors)
        return np.concatenate([drawn, heat], axis=1)


class Predictor:
    """The model of a run; called with an image file it returns a `Prediction`."""

    def __init__(self, trained: Trained, threshold: float = 0.5, *, priors: bool = False):
        """threshold: score above which a detection counts; priors: also compute their maps."""
        self.trained, self.priors = trained, priors
        cfg = trained.cfg.clone()
        # Non-maximum suppression goes by descending score: what it keeps above the threshold is
        # what it would have kept of all. Below the run's own it never detected anything.
        heads = cfg.MODEL.ROI_HEADS
        heads.SCORE_THRESH_TEST = max(threshold, heads.SCORE_THRESH_TEST)
        self.has_masks = bool(cfg.MODEL.MASK_ON)
        self.image_format = cfg.INPUT.FORMAT
        self.mapper = TestImages(cfg, Path())
        self.model = load_model(cfg, trained.weights)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The data set's categories, as in a COCO json."""
        pairs = zip(self.trained.category_ids, self.trained.class_names, strict=True)
        return [{"id": number, "name": name} for number, name in pairs]

    @torch.no_grad()
    def __call__(self, path: Path, image_id: int = 1) -> Prediction:
        """What the model finds in an image file; UserError if it cannot be read."""
        picture = read_image({"file_name": str(path)}, self.image_format)
        image = self.mapper.model_input(picture, image_id)
        instances = self.model([image])[0]["instances"].to("cpu")
        found = instances_to_coco_json(instances, image_id)
        classes = [d["category_id"] for d in found]
        for detection, index in zip(found, classes, strict=True):
            detection["category_id"] = self.trained.category_ids[index]
        rgb = picture[..., ::-1] if self.image_format == "BGR" else picture
        names = [self.trained.class_names[index] for index in classes]
        priors = self._priors(image, found, classes) if self.priors else None
        return Prediction(np.ascontiguousarray(rgb), found, names, priors)

    def _priors(
        self, image: dict[str, Any], found: list[dict[str, Any]], classes: Sequence[int]
    ) -> NDArray[np.float32]:
        rois = [
            Roi(d["image_id"], tuple(d["bbox"]), index)
            for d, index in zip(found, classes, strict=True)
        ]
        return image_maps(self.model, image, rois) if rois else np.zeros((0, 28, 28), np.float32)
