"""Masks in ground-truth boxes: the mask head judged apart from the boxes it is given.

Mask AP mixes three things: whether an object is found, how well its box fits, how good the mask in
it is. Here every object of the validation set has its true box, by detectron2's
`forward_with_given_boxes`, and what is measured is the mask alone, object by object. The prior is
the map of the object's true class, from the box features of that very box; a second time of the
class that the box head takes it for there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from detectron2.config import CfgNode
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import Tensor
from tqdm import tqdm

from opmask.evaluation.inference import image_loader
from opmask.evaluation.mask_overlap import (
    IDENTITY,
    Objects,
    decode,
    identity,
    iou,
    objects_with_masks,
    overlaps,
)
from opmask.model.precision import float32

COLUMNS = [*IDENTITY, "score", "predicted_id", "iou", "boundary_iou", "iou_predicted"]


def measure_in_true_boxes(
    model: GeneralizedRCNN,
    cfg: CfgNode,
    data: Mapping[str, Any],
    image_dir: Path,
    category_ids: Sequence[int],
    *,
    workers: int = 0,
    description: str = "oracle boxes",
) -> pd.DataFrame:
    """A row an object of `data`, a cleaned COCO json: how well `model` segments it in its true box.

    category_ids: of the data set, by contiguous class.

    Columns: those of `identity`; score, the box head's probability of the true class in this box,
    and predicted_id, of the class that is most probable there; iou and boundary_iou of the mask
    with the object's (`opmask.evaluation.mask_overlap`), and iou_predicted, of the mask that comes
    of the predicted class.
    """
    objects = objects_with_masks(data)
    images = [image for image in data["images"] if image["id"] in objects]
    classes = {number: index for index, number in enumerate(category_ids)}
    frames = [pd.DataFrame(columns=COLUMNS)]
    with tqdm(desc=description, total=len(images), unit="img") as bar:
        for inputs in image_loader(cfg, images, image_dir, workers):
            known = [objects[image["image_id"]] for image in inputs]
            frames += _batch(model, inputs, known, classes)
            bar.update(len(inputs))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _batch(
    model: GeneralizedRCNN, inputs: list[dict], known: Sequence[Objects], classes: Mapping[int, int]
) -> list[pd.DataFrame]:
    truths = [torch.tensor([classes[one["category_id"]] for one in image]) for image in known]
    boxes = [corners(image) for image in known]
    masks, probabilities = segment(model, inputs, boxes, truths)
    ids = np.array(list(classes))
    frames = []
    for image, own, found, rows in zip(inputs, known, masks, probabilities, strict=True):
        size = image["height"], image["width"]
        true = decode([one["segmentation"] for one in own], size)
        of_true, of_predicted = (
            paste_masks_in_image(half, corners(own), size).numpy() for half in found.split(len(own))
        )
        score = rows[range(len(own)), [classes[one["category_id"]] for one in own]]
        columns = {"score": score.numpy(), "predicted_id": ids[rows.argmax(1).numpy()]}
        columns |= {**overlaps(of_true, true), "iou_predicted": iou(of_predicted, true)}
        frames.append(identity(own).assign(**columns))
    return frames


def corners(objects: Objects) -> Tensor:
    """Boxes of objects, `(N, 4)` float32: x0, y0, x1, y1 in pixels of the image."""
    boxes = torch.tensor([one["bbox"] for one in objects], dtype=torch.float32)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


@torch.no_grad()
def segment(
    model: GeneralizedRCNN, inputs: list[dict], boxes: list[Tensor], classes: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What a model makes of given boxes, `(N, 4)` an image of `inputs`, detectron2's model input.

    Returns, an image each, on the CPU: masks in [0, 1], `(2 N, h, w)` as the mask head makes them,
    of `classes` and then of the classes that the box head predicts in these boxes; and the classes'
    probabilities `(N, C)`, whose rest to 1 is background. With `load_model`'s mask_threshold t,
    masks are in [0, 0.5 / t].
    """
    batch = model.preprocess_image(inputs)
    features = model.backbone(batch.tensor)
    heads, device, counts = model.roi_heads, batch.tensor.device, [len(one) for one in boxes]
    given = [Boxes(one.to(device).clone()) for one in boxes]  # which `scale` changes in place
    for image, one, (height, width) in zip(inputs, given, batch.image_sizes, strict=True):
        one.scale(width / image["width"], height / image["height"])
    box_features = heads._box_features(features, given)
    with float32(device):
        logits, _ = heads.box_predictor(box_features.mean((2, 3), dtype=torch.float32))
    probabilities = [p[:, :-1] for p in logits.softmax(1).split(counts)]
    parts = zip(
        batch.image_sizes, given, box_features.split(counts), classes, probabilities, strict=True
    )
    twice = [
        Instances(
            size,
            pred_boxes=Boxes.cat([box, box]),
            pred_classes=torch.cat([true.to(device), p.argmax(1)]),
            box_features=torch.cat([maps, maps]),
        )
        for size, box, maps, true, p in parts
    ]
    found = heads.forward_with_given_boxes(features, twice)
    return [i.pred_masks[:, 0].float().cpu() for i in found], [p.cpu() for p in probabilities]
