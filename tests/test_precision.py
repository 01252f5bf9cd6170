"""In bf16 the networks compute in bf16; coordinates, maps, scores and pasted masks do not."""

import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from test_method import build as build_heads
from test_method import inputs, losses_of, targets
from tiny import tiny_cfg

from opmask.model.cpu import SeparableROIAlign, use_matrix_mask_layers, use_separable_roi_align
from opmask.model.precision import Float32ROIAlign, use_precision
from opmask.model.roi_heads import class_activation_map, object_mask_prior

COCO_BOXES = torch.tensor([[0, 1001.3, 603.7, 1330.6, 799.1], [0, 517.3, 11.9, 790.2, 333.3]])


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("layer", [Float32ROIAlign, SeparableROIAlign])
@pytest.mark.parametrize("learns", [False, True])
def test_boxes_of_a_coco_image_are_not_rounded(layer, learns):
    """Only the result is; detectron2 rounds 1001.3 to 1000 and 1330.6 to 1328."""
    torch.manual_seed(0)
    features = torch.randn(1, 2, 100, 167).to(torch.bfloat16).requires_grad_(learns)
    reference = ROIAlign((7, 7), 1 / 8, 2)(features.float(), COCO_BOXES).to(torch.bfloat16)
    with bf16():
        found, stock = (kind((7, 7), 1 / 8, 2)(features, COCO_BOXES) for kind in (layer, ROIAlign))
    assert torch.equal(found, reference)
    assert (stock - reference).abs().max() > 0.05


def test_without_autocast_nothing_changes():
    x, layer = torch.randn(1, 3, 100, 167), Float32ROIAlign((7, 7), 1 / 8, 0)
    assert torch.equal(layer(x, COCO_BOXES), ROIAlign((7, 7), 1 / 8, 0)(x, COCO_BOXES))


def test_maps_and_priors_are_those_of_float32():
    features = torch.randn(5, 64, 7, 7).to(torch.bfloat16)
    weights = torch.randn(5, 64)
    with bf16():
        cam = class_activation_map(features, weights)
        prior = object_mask_prior(cam, (14, 14))
    assert cam.dtype == prior.dtype == torch.float32
    expected = class_activation_map(features.float(), weights)
    assert torch.equal(cam, expected)
    assert torch.equal(prior, object_mask_prior(expected, (14, 14)))


@torch.no_grad()
def detector(precision: str) -> torch.nn.Module:
    """A detector with random weights that finds something."""
    torch.manual_seed(0)
    cfg = tiny_cfg(
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0, TEST__DETECTIONS_PER_IMAGE=12,
        INPUT__MASK_FORMAT="bitmask",
    )  # fmt: skip
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight)
    torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.2)
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight)
    for layer in model.modules():
        layer.momentum = 1.0
    for part in (model.backbone, model.roi_heads.box_head, model.roi_heads.mask_head):
        part.train()  # so that batch normalisation fits what it sees; all but `forward` still tests
    model.roi_heads.mask_head.training = False
    (found,) = model.inference([image()], do_postprocess=False)
    model.roi_heads.mask_head.predictor.bias -= found.pred_masks.logit().median()
    use_separable_roi_align(model.eval())
    use_matrix_mask_layers(model)
    use_precision(model, precision)
    return model


def image() -> dict:
    pixels = torch.rand(3, 64, 86, generator=torch.Generator().manual_seed(1)) * 255
    return {"image": pixels, "height": 480, "width": 645}


@torch.no_grad()
def test_what_a_detector_finds_in_bf16_is_float32_and_pasted_so():
    model = detector("bf16")
    (raw,) = model.inference([image()], do_postprocess=False)
    fields = (raw.pred_boxes.tensor, raw.scores, raw.pred_masks)
    assert {x.dtype for x in fields} == {torch.float32}
    assert len(raw.scores.unique()) == len(raw)  # no ties, which bf16 abounds in
    pasted = detector_postprocess(raw, 480, 645).pred_masks
    (found,) = model([image()])
    assert found["instances"].pred_masks.float().mean() > 0.01
    assert torch.equal(found["instances"].pred_masks, pasted)


@torch.no_grad()
def test_only_the_networks_see_autocast(monkeypatch):
    seen = {}

    def watch(owner, name, label):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            seen[label] = torch.is_autocast_enabled("cpu")
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    model = detector("bf16")
    heads, rpn = model.roi_heads, model.proposal_generator
    outside = {
        "anchors": (rpn.anchor_generator, "forward"),
        "proposals": (rpn, "predict_proposals"),
        "boxes": (heads.box_predictor, "inference"),
        "pooling": (heads.mask_pooler, "forward"),
        "prior": (heads, "object_mask_prior"),
        "pasting": (type(model), "_postprocess"),
    }
    inside = {
        "backbone": (model.backbone.bottom_up.stem, "forward"),
        "RPN": (rpn.rpn_head.conv, "forward"),
        "box head": (heads.box_head.conv1, "forward"),
        "mask head": (heads.mask_head.mask_fcn1, "forward"),
    }
    for label, place in (outside | inside).items():
        watch(*place, label)
    dtypes = set()
    heads.box_pooler.register_forward_pre_hook(
        lambda _, args: dtypes.update(x.dtype for x in args[0])
    )
    model([image()])
    assert seen == dict.fromkeys(outside, False) | dict.fromkeys(inside, True)
    assert dtypes == {torch.bfloat16}


@torch.no_grad()
def test_masks_of_given_boxes_differ_by_the_networks_rounding_alone():
    boxes = Boxes(torch.tensor([[5.3, 4.1, 60.7, 59.2], [30.2, 11.7, 84.9, 62.3]]))
    masks = []
    for precision in ("fp32", "bf16"):
        given = Instances((64, 86), pred_boxes=boxes, pred_classes=torch.tensor([0, 3]))
        model = detector(precision)
        masks.append(model.inference([image()], [given], do_postprocess=False)[0].pred_masks)
    assert masks[0].std() > 0.1
    assert (masks[1] - masks[0]).abs().mean() < 0.05


def test_training_in_bf16_has_float32_losses_near_those_of_float32():
    found = {}
    for precision in ("fp32", "bf16"):
        heads = build_heads().train()
        holder = torch.nn.ModuleDict({"roi_heads": heads})
        use_precision(holder, precision)
        found[precision] = losses_of(heads, targets())
        sum(found[precision].values()).backward()
        assert all(p.grad.isfinite().all() for p in heads.parameters() if p.grad is not None)
    for name, loss in found["bf16"].items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, found["fp32"][name], rtol=0.02, atol=0)


@torch.no_grad()
def test_heads_keep_float32_under_an_autocast_of_others():
    """As of a program that wraps the whole model."""
    heads = build_heads().eval()
    features, proposals = inputs()
    boxes = [p.proposal_boxes for p in proposals]
    with bf16():
        found = heads._forward_box(features, proposals)
        maps = heads._box_features(features, boxes)
        pooled = heads.mask_pooler([features[f] for f in heads.mask_in_features], boxes)
        heads._forward_mask(features, found)
    for image_ in found:
        assert image_.scores.dtype == image_.pred_masks.dtype == torch.float32
    assert maps.dtype == torch.bfloat16
    assert torch.equal(pooled, heads.mask_pooler(list(features.values()), boxes))
