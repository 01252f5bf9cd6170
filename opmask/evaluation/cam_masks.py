"""The class activation map itself as the mask: Table 2, last paragraphs of section 4.4.

The paper compares the "mask AP of our OMP with vanilla CAMs" of a Faster and a Mask R-CNN with the
same box head, and says no more. So here a mask is the object mask prior of
`opmask.model.roi_heads`, for every method alike: the map of the predicted class, from the box
features of the proposal that became the detection, min-max normalised per RoI, bilinear. As the
prior is for OPMask's mask head, it is laid on the refined box. A pixel is in the mask where it
reaches `threshold`; 0.5 is our choice, the one of detectron2 for mask probabilities.

What these choices change is measured beside: the map made anew from the features of the refined
box, in `detect_maps`, and every threshold, in true boxes, in `measure_maps`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from detectron2.config import CfgNode, configurable
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.layers import ShapeSpec, paste_masks_in_image
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from torch import Tensor
from tqdm import tqdm

from opmask.data.coco import Manifest, load_json
from opmask.errors import UserError
from opmask.evaluation.floors import CELLS, floor_masks
from opmask.evaluation.inference import MASK_THRESHOLD, CocoResults, image_loader, load_model
from opmask.evaluation.mask_overlap import (
    Masks,
    Objects,
    decode,
    identity,
    iou,
    objects_with_masks,
)
from opmask.evaluation.oracle import corners, segment
from opmask.model.roi_heads import OPMaskROIHeads, without_box_features


@ROI_HEADS_REGISTRY.register()
class CAMMaskROIHeads(OPMaskROIHeads):
    """Inference of any of our models with the prior in place of the mask branch.

    Sets `pred_masks`, `(N, 1, size, size)` float32 in [0, 0.5 / threshold]: thresholding at 0.5
    after pasting, which is linear, then equals thresholding the pasted map at `threshold`. And
    `refined_masks`, of detections the same from the features of the refined box.
    """

    @configurable
    def __init__(self, *, cam_size: int, cam_threshold: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.cam_size = cam_size
        self.cam_threshold = cam_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "cam_size": 2 * cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,  # as the mask head's output
            "cam_threshold": cfg.MODEL.OPMASK.CAM_THRESHOLD,
        }

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        self._add_maps("pred_masks", features, instances)
        self._add_maps("refined_masks", features, without_box_features(instances))
        return instances

    def _add_maps(self, name: str, features: dict[str, Tensor], instances: list[Instances]) -> None:
        size = (self.cam_size, self.cam_size)
        masks = self.object_mask_prior(features, instances, size) * (
            MASK_THRESHOLD / self.cam_threshold
        )
        for image, found in zip(instances, masks.split([len(i) for i in instances]), strict=True):
            image.set(name, found)


class MapResults(CocoResults):
    """COCO results with two masks: `segmentation`, and `refined` from the refined box."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            found, size = output["instances"].to("cpu"), (image["height"], image["width"])
            other = Instances(found.image_size, **found.get_fields())
            other.pred_masks = paste_masks_in_image(
                found.refined_masks[:, 0], found.pred_boxes, size, MASK_THRESHOLD
            )
            number = image["image_id"]
            pairs = (instances_to_coco_json(one, number) for one in (found, other))
            for result, refined in zip(*pairs, strict=True):
                category = self.category_ids[result["category_id"]]
                masks = {"refined": refined["segmentation"]}
                self.results.append({**result, **masks, "category_id": category})
        self.bar.update(len(inputs) * comm.get_world_size())


def detect_maps(
    cfg: CfgNode, weights: Path, manifest: Manifest, workers: int, description: str
) -> list[dict[str, Any]]:
    """Results of `MapResults` on the validation images; `cfg` is of `cam_config`."""
    data, ids = load_json(manifest.val.annotations), [c["id"] for c in manifest.categories]
    model, images = load_model(cfg, weights), data["images"]
    evaluator = MapResults(ids, len(images), description)
    loader = image_loader(cfg, images, manifest.val.images, workers)
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    return inference_on_dataset(model, loader, evaluator) or []


def measure_maps(
    cfg: CfgNode, weights: Path, manifest: Manifest, workers: int, description: str
) -> pd.DataFrame:
    """A row an object of the validation images: how well its map lies on it, in its true box.

    cfg: of `cam_config`; its threshold is one of those measured. The map is of the true class,
    from the features of the true box.

    Columns: those of `identity`; iou_T and covered_T, IoU of the map from T percent on with the
    object, and which share of the object it covers, for each T of `percents`; iou_ellipse, of the
    ellipse in the box, which needs no model.
    """
    data, ids = load_json(manifest.val.annotations), [c["id"] for c in manifest.categories]
    model, objects = load_model(cfg, weights), objects_with_masks(data)
    threshold = float(cfg.MODEL.OPMASK.CAM_THRESHOLD)
    classes = {number: index for index, number in enumerate(ids)}
    images = [image for image in data["images"] if image["id"] in objects]
    frames = []
    with tqdm(desc=description, total=len(images), unit="img") as bar:
        for inputs in image_loader(cfg, images, manifest.val.images, workers):
            known = [objects[image["image_id"]] for image in inputs]
            truths = [torch.tensor([classes[o["category_id"]] for o in own]) for own in known]
            found, _ = segment(model, inputs, [corners(own) for own in known], truths)
            for image, own, maps in zip(inputs, known, found, strict=True):
                size = image["height"], image["width"]
                soft = maps[: len(own)] * (threshold / MASK_THRESHOLD)
                frames.append(identity(own).assign(**_overlaps(soft, own, size, threshold)))
            bar.update(len(inputs))
    return pd.concat(frames, ignore_index=True)


def percents(threshold: float) -> list[int]:
    """The thresholds that are measured, percent, denser where maps end; `threshold` among them."""
    return sorted({5, 10, 15, 20, 25, *range(30, 100, 10), round(100 * threshold)})


def _overlaps(
    maps: Tensor, objects: Objects, size: tuple[int, int], threshold: float
) -> dict[str, NDArray[np.float64]]:
    true = decode([one["segmentation"] for one in objects], size)
    # detectron2 pastes to bytes where no threshold is given
    pasted = paste_masks_in_image(maps, Boxes(corners(objects)), size, threshold=-1).numpy()
    found = {}
    for percent in percents(threshold):
        masks = pasted >= 255 * percent / 100
        found[f"iou_{percent}"] = iou(masks, true)
        found[f"covered_{percent}"] = (masks & true).sum((1, 2)) / true.sum((1, 2)).clip(1)
    ellipse = ellipses([one["bbox"] for one in objects], size)
    return found | {"iou_ellipse": iou(ellipse, true)}


def ellipses(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Masks:
    """The ellipse in each of the xywh `boxes` on an image of `(height, width)`: a floor."""
    return floor_masks(boxes, size, np.zeros((CELLS, CELLS)))["ellipse"]


def as_ellipses(
    results: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """COCO results with the ellipse in each box as its mask: a floor for any map."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    found = []
    for result in results:
        (mask,) = ellipses([result["bbox"]], sizes[result["image_id"]])
        encoded = mask_util.encode(np.asfortranarray(mask))
        found.append({**result, "segmentation": encoded})
    return found


def cam_config(cfg: CfgNode, threshold: float = 0.5) -> CfgNode:
    """The config of a trained run (with or without mask head), changed to use CAMs as masks.

    Args:
        cfg: of the run, left as it is. Its weights fit the changed model.
        threshold: part of a normalised map, in (0, 1], from which on a pixel is in the mask.

    Raises:
        UserError: threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"paper.yaml: cam.threshold: {threshold} is not in (0, 1]")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NAME = CAMMaskROIHeads.__name__
    cfg.MODEL.OPMASK.CAM_THRESHOLD = float(threshold)
    return cfg
