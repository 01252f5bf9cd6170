"""The RoI heads compute what the implementation published with the paper computes.

`data/roi_heads_voc.npz` holds inputs, weights and outputs of that implementation: float32, CPU,
narrow layers, `supervised = voc`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from detectron2.structures import Boxes, ImageList, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from opmask.data.splits import COCO_CLASSES, VOC_CLASSES
from opmask.model.config import paper_config

OVERRIDES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.OPMASK.BOX_CONV_DIMS": [32, 32, 32, 32],
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_BOX_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 4096,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "TEST.DETECTIONS_PER_IMAGE": 20,
}
OUR_NAMES = {
    "box_head.cls_score": "box_predictor.cls_score",
    "box_head.bbox_pred": "box_predictor.bbox_pred",
    "mask_head.mask_down": "mask_head.mask_fcn",
    "mask_head.mask_up1": "mask_head.deconv",
}
OPMASK = {"mask_head": "PriorMaskHead", "prior": True, "mask_gradients": True, "mask_convs": 7}


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "data" / "roi_heads_voc.npz") as file:
        return dict(file)


def ours(name: str) -> str:
    for theirs, mine in OUR_NAMES.items():
        name = name.replace(theirs, mine)
    return name


def build_heads(reference: dict[str, np.ndarray]) -> torch.nn.Module:
    voc = [k for k, name in enumerate(COCO_CLASSES) if name in VOC_CLASSES]
    cfg = paper_config(
        method=OPMASK, backbone={"resnet": 50}, supervised=voc, num_classes=80, overrides=OVERRIDES
    )
    shapes = {f"p{k}": ShapeSpec(channels=16, stride=2**k) for k in range(2, 6)}
    heads = build_roi_heads(cfg, shapes)
    state = {
        ours(key.removeprefix("param/")): torch.from_numpy(value)
        for key, value in reference.items()
        if key.startswith("param/")
    }
    heads.load_state_dict(state)
    return heads


def feature_maps(reference: dict[str, np.ndarray], images: slice) -> dict[str, torch.Tensor]:
    return {
        f"p{k}": torch.from_numpy(reference[f"feature/p{k}"][images]).requires_grad_()
        for k in range(2, 6)
    }


def proposals_of(reference: dict[str, np.ndarray], image: int) -> Instances:
    boxes = torch.from_numpy(reference[f"image{image}/proposal_boxes"])
    logits = torch.zeros(len(boxes))
    return Instances((160, 160), proposal_boxes=Boxes(boxes), objectness_logits=logits)


def targets_of(reference: dict[str, np.ndarray], image: int) -> Instances:
    return Instances(
        (160, 160),
        gt_boxes=Boxes(torch.from_numpy(reference[f"image{image}/gt_boxes"])),
        gt_classes=torch.from_numpy(reference[f"image{image}/gt_classes"]),
        gt_masks=PolygonMasks([[p] for p in reference[f"image{image}/gt_polygons"]]),
    )


def images_of(count: int) -> ImageList:
    return ImageList(torch.zeros(count, 3, 160, 160), [(160, 160)] * count)


@pytest.fixture
def trained(reference):
    """The heads, their input maps and losses, after the forward pass of a training step, in fp32
    (as coordinates and maps always are)."""
    heads = build_heads(reference).train()
    features = {
        name: map_.detach().requires_grad_()
        for name, map_ in feature_maps(reference, slice(None)).items()
    }
    proposals = [proposals_of(reference, i) for i in range(2)]
    targets = [targets_of(reference, i) for i in range(2)]
    with EventStorage():
        _, losses = heads(images_of(2), features, proposals, targets)
    return heads, features, losses


def test_training_losses(reference, trained):
    _, _, losses = trained
    theirs = {"loss_cls": "loss_cls", "loss_box_reg": "loss_box_reg", "loss_mask": "mask_loss"}
    assert set(losses) == set(theirs)
    for name, key in theirs.items():
        assert losses[name].item() == pytest.approx(float(reference[f"train_loss/{key}"]), abs=1e-5)


def assert_gradient(actual: torch.Tensor | None, expected: np.ndarray, name: str) -> None:
    """Equal up to rounding: some activations are so near a ReLU's zero that the last bit decides.

    The float32 reference itself is up to 8e-4 (relative to a tensor's largest entry) away from the
    same computation in float64, and two float32 convolution kernels are 5e-3 apart.
    """
    actual = np.zeros_like(expected) if actual is None else actual.numpy()
    tolerance = 1e-3 if actual.dtype == np.float64 else 5e-3
    error = np.abs(actual - expected).max()
    assert error <= tolerance * np.abs(expected).max() + 1e-9, f"{name}: {error}"


def test_gradients_of_all_losses(reference, trained):
    heads, features, losses = trained
    sum(losses.values()).backward()
    for name, map_ in features.items():
        assert_gradient(map_.grad, reference[f"grad_feature/{name}"], name)
    parameters = dict(heads.named_parameters())
    keys = [k for k in reference if k.startswith("grad/")]
    assert len(keys) == len(parameters)
    for key in keys:
        assert_gradient(parameters[ours(key.removeprefix("grad/"))].grad, reference[key], key)


def test_gradients_of_the_mask_loss_alone(reference, trained):
    heads, _, losses = trained
    losses["loss_mask"].backward()
    parameters = dict(heads.named_parameters())
    for key in (k for k in reference if k.startswith("grad_mask_loss_only/")):
        name = ours(key.removeprefix("grad_mask_loss_only/"))
        assert_gradient(parameters[name].grad, reference[key], name)


@pytest.mark.parametrize("image", [0, 1])
def test_detections_and_masks(reference, image):
    heads = build_heads(reference).eval()
    features = feature_maps(reference, slice(image, image + 1))
    with torch.no_grad():
        (found,), _ = heads(images_of(1), features, [proposals_of(reference, image)])
    expected = {k.split("/")[1]: v for k, v in reference.items() if k.startswith(f"test{image}/")}
    np.testing.assert_array_equal(found.pred_classes, expected["pred_classes"])
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found.pred_boxes.tensor, expected["pred_boxes"], atol=1e-3)
    np.testing.assert_allclose(found.pred_masks, expected["pred_masks"], atol=1e-5)
