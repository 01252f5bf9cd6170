"""Tests that would catch a wrong method, on the real heads."""

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from detectron2.structures import Boxes, ImageList, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from opmask.model.config import paper_config
from opmask.model.roi_heads import class_activation_map, object_mask_prior

OPMASK = {"mask_head": "PriorMaskHead", "prior": True, "mask_gradients": True, "mask_convs": 7}
SUPERVISED = [0, 1, 2]
SIZE = (64, 64)


def build(method: dict | None = None, **changes: str) -> torch.nn.Module:
    overrides = {
        "MODEL.DEVICE": "cpu",
        "MODEL.OPMASK.BOX_CONV_DIMS": [16, 24, 24, 24],
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        "MODEL.ROI_BOX_HEAD.NORM": "BN",
        "MODEL.ROI_MASK_HEAD.NORM": "BN",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        **{f"MODEL.{key.replace('__', '.')}": value for key, value in changes.items()},
    }
    cfg = paper_config(
        method=method or OPMASK, backbone={"resnet": 50}, supervised=SUPERVISED, num_classes=6,
        overrides=overrides,
    )  # fmt: skip
    torch.manual_seed(0)
    heads = build_roi_heads(
        cfg, {f"p{k}": ShapeSpec(channels=16, stride=2**k) for k in range(2, 6)}
    )
    torch.nn.init.normal_(heads.box_predictor.cls_score.bias)  # zero by default: would hide errors
    torch.nn.init.normal_(heads.mask_head.predictor.weight)
    return heads


def inputs(seed: int = 0) -> tuple[dict[str, torch.Tensor], list[Instances]]:
    generator = torch.Generator().manual_seed(seed)
    features = {
        f"p{k}": torch.randn(2, 16, 64 // 2**k, 64 // 2**k, generator=generator)
        for k in range(2, 6)
    }
    corners = torch.rand(2, 20, 2, 2, generator=generator).sort(dim=2).values * 60
    boxes = corners.flatten(2) + torch.tensor([0.0, 0.0, 4.0, 4.0])
    proposals = [
        Instances(SIZE, proposal_boxes=Boxes(b), objectness_logits=torch.zeros(len(b)))
        for b in boxes
    ]
    return features, proposals


def targets(polygon_of=None) -> list[Instances]:
    """Six objects an image, one of each class; `polygon_of(image, class)` may replace a mask."""
    result = []
    for image in range(2):
        boxes = torch.tensor([[4.0 * k, 6.0 * k, 4.0 * k + 24, 6.0 * k + 28] for k in range(6)])
        masks = [
            [np.array([x0, y0, x1, y0, x1, y1])] for x0, y0, x1, y1 in boxes.numpy().astype(float)
        ]
        if polygon_of:
            masks = [polygon_of(image, k) or mask for k, mask in enumerate(masks)]
        result.append(
            Instances(
                SIZE,
                gt_boxes=Boxes(boxes),
                gt_classes=torch.arange(6),
                gt_masks=PolygonMasks(masks),
            )
        )
    return result


def losses_of(heads: torch.nn.Module, given_targets: list[Instances]) -> dict[str, torch.Tensor]:
    features, proposals = inputs()
    torch.manual_seed(1)  # RoI sampling
    with EventStorage():
        _, losses = heads(
            ImageList(torch.zeros(2, 3, *SIZE), [SIZE] * 2), features, proposals, given_targets
        )
    return losses


def test_mean_of_the_map_plus_bias_is_the_logit():
    heads = build().eval()
    features, proposals = inputs()
    with torch.no_grad():
        box_features = heads._box_features(features, [p.proposal_boxes for p in proposals])
        logits, _ = heads.box_predictor(box_features.mean((2, 3)))
        layer = heads.box_predictor.cls_score
        for c in range(7):
            cam = class_activation_map(box_features, layer.weight[c].expand(len(logits), -1))
            torch.testing.assert_close(cam.mean((1, 2)) + layer.bias[c], logits[:, c])


@pytest.mark.parametrize("training", [True, False])
def test_the_prior_equals_a_loop_over_rois(training):
    heads = build().train(training)
    heads.box_head.eval()  # so that the maps of a RoI do not depend on the others
    features, proposals = inputs()
    boxes = [p.proposal_boxes for p in proposals]
    rng = np.random.default_rng(0)
    classes = [torch.from_numpy(rng.integers(0, 6, 20)) for _ in boxes]
    fields = ("proposal_boxes", "gt_classes") if training else ("pred_boxes", "pred_classes")
    rois = [
        Instances(SIZE, **dict(zip(fields, pair, strict=True)))
        for pair in zip(boxes, classes, strict=True)
    ]
    for image in rois:
        image.pred_boxes = image.get(fields[0])
    with torch.no_grad():
        prior = heads.object_mask_prior(features, rois, (14, 14)).numpy()
        maps = heads._box_features(features, boxes).numpy()
    weights = heads.box_predictor.cls_score.weight.detach().numpy()
    for n, c in enumerate(torch.cat(classes).tolist()):
        cam = sum(weights[c, k] * maps[n, k] for k in range(24))
        cam = (cam - cam.min()) / (cam.max() - cam.min())
        for y in range(14):
            for x in range(14):  # bilinear, pixel centres at half integers, edges repeated
                u, v = (np.clip((i + 0.5) / 2 - 0.5, 0, 6) for i in (y, x))
                y0, x0 = min(int(u), 5), min(int(v), 5)
                dy, dx = u - y0, v - x0
                expected = (
                    cam[y0, x0] * (1 - dy) * (1 - dx) + cam[y0, x0 + 1] * (1 - dy) * dx
                    + cam[y0 + 1, x0] * dy * (1 - dx) + cam[y0 + 1, x0 + 1] * dy * dx
                )  # fmt: skip
                assert prior[n, 0, y, x] == pytest.approx(expected, abs=1e-5)


def test_the_prior_is_added_to_every_channel():
    heads = build().eval()
    features, proposals = inputs()
    seen = {}
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(x=args[0].clone()))
    pooled = {}
    heads.mask_pooler.register_forward_hook(lambda _, args, out: pooled.update(x=out.clone()))
    with torch.no_grad():
        heads(ImageList(torch.zeros(2, 3, *SIZE), [SIZE] * 2), features, proposals)
    added = seen["x"] - pooled["x"]
    assert added.abs().amax() == pytest.approx(1, abs=1e-5)  # min-max: the largest value is 1
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)


def gradients(heads: torch.nn.Module, loss: torch.Tensor) -> dict[str, float]:
    heads.zero_grad()
    loss.backward()
    return {
        name: 0.0 if p.grad is None else p.grad.abs().max().item()
        for name, p in heads.named_parameters()
    }


def test_mask_gradients_reach_the_box_convolutions_but_not_the_classifier():
    heads = build().train()
    found = gradients(heads, losses_of(heads, targets())["loss_mask"])
    for k in range(1, 5):
        assert found[f"box_head.conv{k}.weight"] > 0
    assert all(value == 0 for name, value in found.items() if name.startswith("box_predictor"))


@pytest.mark.parametrize("change", [{"mask_gradients": False}, {"prior": False}])
def test_mask_gradients_vanish_from_the_box_head_when_switched_off(change):
    heads = build({**OPMASK, **change}).train()
    found = gradients(heads, losses_of(heads, targets())["loss_mask"])
    assert all(value == 0 for name, value in found.items() if name.startswith("box_"))
    assert found["mask_head.mask_fcn1.weight"] > 0


def test_masks_of_novel_classes_change_nothing():
    def elsewhere(image: int, c: int) -> list | None:
        return None if c in SUPERVISED else [np.array([0.0, 0, 3 + image, 0, c, 50])]

    heads = build().train()
    other = copy.deepcopy(heads)
    before, after = losses_of(heads, targets()), losses_of(other, targets(elsewhere))
    for name, loss in before.items():
        assert torch.equal(loss, after[name])
    sum(before.values()).backward()
    sum(after.values()).backward()
    for (name, p), q in zip(heads.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def test_masks_of_supervised_classes_matter():
    def elsewhere(_image: int, c: int) -> list | None:
        return [np.array([0.0, 0, 3, 0, 3, 50])] if c in SUPERVISED else None

    heads = build().train()
    other = copy.deepcopy(heads)
    before, after = losses_of(heads, targets()), losses_of(other, targets(elsewhere))
    assert not torch.equal(before["loss_mask"], after["loss_mask"])


def test_objects_without_a_mask_do_not_enter_the_loss():
    """A supervised class may have instances with boxes only."""
    nothing = targets()
    for image in nothing:
        image.gt_has_mask = torch.zeros(6, dtype=torch.bool)
    losses = losses_of(build().train(), nothing)
    assert losses["loss_mask"].item() == 0
    assert losses["loss_cls"].item() > 0


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 7, 7), elements=st.floats(-1e4, 1e4, width=32)))
def test_the_prior_lies_between_zero_and_one(cam):
    prior = object_mask_prior(torch.from_numpy(cam), (14, 14))
    assert prior.shape == (3, 1, 14, 14)
    assert prior.isfinite().all()
    assert prior.min() >= 0
    assert prior.max() <= 1 + 1e-6


@pytest.mark.parametrize("value", [0.0, 3.5, -1e6])
def test_a_constant_map_gives_zeros(value):
    cam = torch.full((2, 7, 7), value, requires_grad=True)
    prior = object_mask_prior(cam, (14, 14))
    prior.sum().backward()
    assert torch.equal(prior, torch.zeros(2, 1, 14, 14))
    assert cam.grad.isfinite().all()
