"""A trained run applied to single images, with the evaluation's own code and settings.

`opmask.load` makes a `Predictor`; what it finds in an image are `Detections`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from PIL import Image

from opmask.data.loader import read_image
from opmask.errors import UserError
from opmask.evaluation.inference import MASK_THRESHOLD, TestImages, load_model
from opmask.evaluation.overlay import heat_overlay, overlay
from opmask.evaluation.priors import image_maps
from opmask.evaluation.rois import Roi
from opmask.evaluation.trained import Trained, find_trained

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
AnyImage = Path | str | Image.Image | Picture


@dataclass(frozen=True)
class Detections:
    """What was found in one image: n objects, the highest score first."""

    image: Picture  # (H, W, 3) RGB, upright
    boxes: NDArray[np.float32]  # (n, 4), x0, y0, x1, y1 in pixels of `image`
    scores: NDArray[np.float32]  # (n,)
    names: list[str]  # class names
    category_ids: list[int]  # of the same classes, as the data set's COCO json has them
    masks: NDArray[np.bool_] | None  # (n, H, W); None of a run without mask head
    priors: NDArray[np.float32] | None  # (n, 28, 28) in [0, 1]; None if not asked for

    def __len__(self) -> int:
        return len(self.scores)

    def coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: boxes xywh in pixels, masks as compressed RLE."""
        instances = Instances(self.image.shape[:2])
        instances.pred_boxes = Boxes(torch.from_numpy(self.boxes))
        instances.scores = torch.from_numpy(self.scores)
        instances.pred_classes = torch.tensor(self.category_ids)
        if self.masks is not None:
            instances.pred_masks = torch.from_numpy(self.masks)
        return instances_to_coco_json(instances, image_id)

    def overlay(self) -> Picture:
        """The drawn picture, `(H', W', 3)`; the priors' heat map, if any, to its right."""
        labels = [
            f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)
        ]
        drawn = overlay(self.image, self.boxes, labels, self.masks)
        if self.priors is None:
            return drawn
        heat = heat_overlay(self.image, self.boxes, labels, self.priors)
        return np.concatenate([drawn, heat], axis=1)


class Predictor:
    """The model of a run; called with an image it returns its `Detections`."""

    def __init__(
        self,
        trained: Trained,
        *,
        threshold: float = 0.5,
        mask_threshold: float = MASK_THRESHOLD,
        priors: bool = False,
    ):
        """threshold: score above which a detection counts; mask_threshold: probability from which
        a pixel is in its mask; priors: also compute their maps."""
        self.trained, self.priors = trained, priors
        cfg = trained.cfg.clone()
        # Non-maximum suppression goes by descending score: what it keeps above the threshold is
        # what it would have kept of all. Below the run's own it never detected anything.
        heads = cfg.MODEL.ROI_HEADS
        heads.SCORE_THRESH_TEST = max(threshold, heads.SCORE_THRESH_TEST)
        self.has_masks, self.device = bool(cfg.MODEL.MASK_ON), str(cfg.MODEL.DEVICE)
        self.image_format = cfg.INPUT.FORMAT
        self.mapper = TestImages(cfg, Path())
        self.model = load_model(cfg, trained.weights, mask_threshold)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The data set's categories, as in a COCO json."""
        pairs = zip(self.trained.category_ids, self.trained.class_names, strict=True)
        return [{"id": number, "name": name} for number, name in pairs]

    @torch.no_grad()
    def __call__(self, image: AnyImage) -> Detections:
        """What the model finds in `image`: a file, Pillow's image, or `(H, W, 3)` RGB of uint8.

        Raises:
            UserError: the file cannot be read, or the array is no such picture.
        """
        picture = self._pixels(image)
        record = self.mapper.model_input(picture, image_id=1)
        found = self.model([record])[0]["instances"].to("cpu")
        classes = found.pred_classes.tolist()
        boxes = found.pred_boxes.tensor
        return Detections(
            image=np.ascontiguousarray(self._rgb(picture)),
            boxes=boxes.numpy(),
            scores=found.scores.numpy(),
            names=[self.trained.class_names[index] for index in classes],
            category_ids=[self.trained.category_ids[index] for index in classes],
            masks=found.pred_masks.numpy() if self.has_masks else None,
            priors=self._priors(record, boxes, classes) if self.priors else None,
        )

    def _pixels(self, image: AnyImage) -> Picture:
        """In the model's channel order."""
        if isinstance(image, Path | str):
            return read_image({"file_name": str(image)}, self.image_format)
        pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise UserError(
                f"image: an array of {pixels.dtype} {pixels.shape}, has to be uint8 (H, W, 3), RGB"
            )
        return self._rgb(pixels)

    def _rgb(self, picture: Picture) -> Picture:
        """Between RGB and the model's channel order, either way."""
        return picture[..., ::-1] if self.image_format == "BGR" else picture

    def _priors(
        self, record: dict[str, Any], boxes: torch.Tensor, classes: list[int]
    ) -> NDArray[np.float32]:
        sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
        rois = [Roi(1, tuple(box), index) for box, index in zip(sides, classes, strict=True)]
        return image_maps(self.model, record, rois) if rois else np.zeros((0, 28, 28), np.float32)


def load(run: Path | str, *, device: str = "auto", **settings: Any) -> Predictor:
    """`opmask.predict.load`."""
    return Predictor(find_trained(Path(run), device), **settings)
