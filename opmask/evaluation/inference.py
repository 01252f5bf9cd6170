"""Runs a trained model over a set of images: detectron2's inference loop, COCO results out."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import MapDataset
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils import comm
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm import tqdm

from opmask.data.loader import read_image
from opmask.errors import UserError
from opmask.integrity import verified
from opmask.model.cpu import use_matrix_mask_layers
from opmask.model.plain_weights import read
from opmask.model.precision import use_precision

# Probability from which a pixel is in the mask: of detectron2's `detector_postprocess`, which
# pastes the masks, and of the paper.
MASK_THRESHOLD = 0.5


class CocoResults(DatasetEvaluator):
    """Collects detections as COCO results: boxes in xywh pixels, masks as compressed RLE."""

    def __init__(self, category_ids: Sequence[int], images: int, description: str):
        self.category_ids, self.images, self.description = category_ids, images, description

    def reset(self) -> None:
        self.results: list[dict[str, Any]] = []
        # Only said where it differs from the default, which the environment may set (TQDM_DISABLE).
        quiet: dict[str, Any] = {} if comm.is_main_process() else {"disable": True}
        self.bar = tqdm(total=self.images, desc=self.description, unit="img", **quiet)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            found = output["instances"].to("cpu")
            for result in instances_to_coco_json(found, image["image_id"]):
                result["category_id"] = self.category_ids[result["category_id"]]
                self.results.append(result)
        self.bar.update(len(inputs) * comm.get_world_size())

    def evaluate(self) -> list[dict[str, Any]]:
        """All processes' results, by image id; empty but in the main process."""
        self.bar.close()
        parts = comm.gather(self.results)
        return sorted((r for part in parts for r in part), key=lambda r: r["image_id"])


class TestImages:
    """Maps an image of a COCO json to detectron2's model input, at test size."""

    def __init__(self, cfg: CfgNode, image_dir: Path):
        self.augmentations = T.AugmentationList(utils.build_augmentation(cfg, is_train=False))
        self.image_format, self.image_dir = cfg.INPUT.FORMAT, image_dir

    def __call__(self, image: Mapping[str, Any]) -> dict[str, Any]:
        size = {key: image[key] for key in ("height", "width")}
        record = {**size, "file_name": str(self.image_dir / image["file_name"])}
        return self.model_input(read_image(record, self.image_format), image["id"])

    def model_input(self, picture: NDArray[np.uint8], image_id: int) -> dict[str, Any]:
        """detectron2's model input of `(H, W, 3)` pixels in the model's channel order."""
        height, width = picture.shape[:2]
        resized = T.AugInput(picture)
        self.augmentations(resized)
        pixels = torch.as_tensor(resized.image.transpose(2, 0, 1).copy())
        return {"height": height, "width": width, "image": pixels, "image_id": image_id}


def load_model(
    cfg: CfgNode, weights: Path, mask_threshold: float = MASK_THRESHOLD
) -> torch.nn.Module:
    """The model of `cfg` with `weights`, ready for inference on `cfg.MODEL.DEVICE`.

    mask_threshold: in (0, 1], the probability from which a pixel is in the mask; no matter where
        the model has no mask head.

    Raises:
        UserError: the file is not of this model, whole and nothing but weights, or it is damaged.
    """
    model = build_model(cfg).eval().to(memory_format=torch.channels_last)
    try:
        model.load_state_dict(read(str(verified(weights)))["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{weights}: not the weights of its configuration ({reason} …)") from error
    if cfg.MODEL.DEVICE == "cpu":
        use_matrix_mask_layers(model)
    use_precision(model, cfg.SOLVER.PRECISION)
    if cfg.MODEL.MASK_ON and mask_threshold != MASK_THRESHOLD:
        model.roi_heads.mask_head.register_forward_hook(partial(_scale, mask_threshold))
    return model


def _scale(
    mask_threshold: float, head: torch.nn.Module, given: object, found: list[Instances]
) -> None:
    """So that 0.5 after pasting, which is linear, is `mask_threshold` of what the head gave."""
    for image in found:
        image.pred_masks = image.pred_masks * (MASK_THRESHOLD / mask_threshold)


def detect(
    model: torch.nn.Module,
    cfg: CfgNode,
    images: Sequence[Mapping[str, Any]],
    image_dir: Path,
    category_ids: Sequence[int],
    *,
    workers: int = 0,
    description: str = "inference",
) -> list[dict[str, Any]]:
    """COCO results of `model` on `images` (entries of a COCO json), at most 100 an image."""
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    loader = image_loader(cfg, images, image_dir, workers)
    evaluator = CocoResults(category_ids, len(images), description)
    return inference_on_dataset(model, loader, evaluator) or []


def image_loader(
    cfg: CfgNode, images: Sequence[Mapping[str, Any]], image_dir: Path, workers: int = 0
) -> DataLoader:
    """`images` (entries of a COCO json) as detectron2's model input, this process's share.

    `cfg.TEST.IMS_PER_BATCH` images at a time, for which detectron2 0.6's own test loader, otherwise
    the same, has no setting.
    """
    return DataLoader(
        MapDataset(list(images), TestImages(cfg, image_dir)),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        sampler=InferenceSampler(len(images)),
        num_workers=workers,
        collate_fn=trivial_batch_collator,
    )
