"""What the box head of a trained run sees in chosen RoIs: the prior of figures 1, 4 and 7 (eq. 1).

Faster and Mask R-CNN have no prior, but the same box head: for them it is the CAM alone, scaled
alike. A given box is used as it is, where inference has the proposal that became the detection.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray

from opmask.evaluation.inference import TestImages, load_model
from opmask.evaluation.rois import Roi
from opmask.integrity import verified
from opmask.model.config import load_config
from opmask.training.files import CONFIG, FINAL

SIZE = (28, 28)  # of the maps: as the mask head's output


def prior_maps(
    trained: Path, rois: Sequence[Roi], images: Mapping[int, Mapping[str, Any]], image_dir: Path
) -> list[NDArray]:
    """The map of each RoI, `(28, 28)` in [0, 1], from the run in `trained` (`runs/…/train/<key>`).

    `images` are the entries of a COCO json by id; only those of `rois` go through the network, on a
    GPU if the run was made on one that is there, else on the CPU.
    """
    cfg = load_config(verified(trained / CONFIG))
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    model = load_model(cfg, trained / FINAL)
    mapper = TestImages(cfg, image_dir)
    result: dict[int, NDArray] = {}
    for image_id in dict.fromkeys(roi.image_id for roi in rois):
        indices = [n for n, roi in enumerate(rois) if roi.image_id == image_id]
        maps = image_maps(model, mapper(images[image_id]), [rois[n] for n in indices])
        result.update(zip(indices, maps, strict=True))
    return [result[n] for n in range(len(rois))]


@torch.no_grad()
def image_maps(model: GeneralizedRCNN, image: dict[str, Any], rois: Sequence[Roi]) -> NDArray:
    """The maps of RoIs of one image, `(N, 28, 28)`; `image` is detectron2's model input."""
    batch = model.preprocess_image([image])
    features = model.backbone(batch.tensor)
    height, width = batch.image_sizes[0]
    boxes = Boxes(torch.tensor([_corners(roi.box) for roi in rois], device=batch.tensor.device))
    boxes.scale(width / image["width"], height / image["height"])
    classes = torch.tensor([roi.category for roi in rois], device=batch.tensor.device)
    found = Instances((height, width), pred_boxes=boxes, pred_classes=classes)
    return model.roi_heads.object_mask_prior(features, [found], SIZE)[:, 0].float().cpu().numpy()


def _corners(box: Sequence[float]) -> list[float]:
    x, y, w, h = (float(value) for value in box)
    return [x, y, x + w, y + h]
