"""ShapeProp against its authors' numbers, and on the common base."""

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from rival_checks import (
    bf16_is_near_float32,
    ddp_gets_every_gradient,
    gradients,
    layout_does_not_matter,
    losses_of,
    masks_of_given_boxes_stand_alone,
    novel_masks_do_not_matter,
    reference,
    tiny_cfg,
    trains_and_detects,
    without_objects,
)
from test_method import build, inputs
from test_over_ranks import alone  # noqa: F401 - a fixture
from torch import nn
from torch.nn import functional as F

from opmask.rivals.shapeprop import (
    ShapeProp,
    ShapePropMaskHead,
    activating_loss,
    maps_of,
    propagate,
)

METHOD = {
    "components": "opmask.rivals.shapeprop",
    "roi_heads": "ShapePropROIHeads",
    "mask_head": "ShapePropMaskHead",
    "mask_convs": 2,
}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
AGNOSTIC = {"ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": "True"}
NARROW = {"SHAPEPROP__LATENT_DIM": "3", "ROI_MASK_HEAD__POOLER_RESOLUTION": "7"}
LOSSES = ("activating", "propagating", "mask")


def heads_of(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **(NARROW | changes)).train()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected.view_as(found), rtol=1e-12, atol=1e-14)


def original() -> tuple[dict[str, torch.Tensor], ShapeProp, ShapePropMaskHead, dict]:
    """The original's numbers, our modules with its weights, and our layers by its names.

    The background's row of the classifier, its first, becomes the last.
    """
    known = reference("shapeprop")
    module = ShapeProp(8, 8, 4, 4, 3).double()
    head = ShapePropMaskHead(
        ShapeSpec(channels=8, height=7, width=7), conv_dims=[8] * 5, num_classes=1,
        propagating_weight=1.0,
    ).double()  # fmt: skip
    layers = {
        "shapeprop.predictor.cls": module.classifier,
        "shapeprop.propagation_weight_regressor.reg": module.kernels,
        "mask_predictor.conv5_mask": head.deconv,
        "mask_predictor.mask_fcn_logits": head.predictor,
    }
    for k in range(4):
        for tower in ("activating", "propagating"):
            name = f"shapeprop.feature_extractor_{tower}.shapeprop_feature{k + 1}"
            layers[name] = getattr(module, tower)[2 * k]
        layers[f"mask_extractor.mask_fcn{k + 1}"] = head.conv_norm_relus[k]
        layers[f"mask_extractor.encoder.{2 * k}"] = head.encoder[2 * k]
    for k in (0, 2, 4):
        layers[f"shapeprop.encoder.encoder.{k}"] = module.encoder[k]
        layers[f"shapeprop.decoder.decoder.{k}"] = module.decoder[k]
    for name, layer in layers.items():
        shift = -1 if layer is module.classifier else 0
        layer.weight.data = known[f"w/{name}.weight"].roll(shift, 0)
        layer.bias.data = known[f"w/{name}.bias"].roll(shift, 0)
    assert 2 * len(layers) == sum(key.startswith("w/") for key in known)
    return known, module, head, layers


def forward(known: dict, module: ShapeProp, head: ShapePropMaskHead) -> dict[str, torch.Tensor]:
    """What ours makes of the original's inputs, step by step."""
    x, rois = known["in/roi_shapeprop"], known["in/roi_mask"]
    classes = (known["in/labels"] - 1) % 5
    maps = module.class_saliency(x)
    saliency = maps_of(maps, classes)
    activation = module(x, saliency)
    positive, has_mask = classes < 4, known["in/has_mask"]
    logits = head.layers(torch.cat([rois, activation], dim=1)[positive])
    masks = torch.zeros(6, 7, 7, dtype=torch.bool)
    masks[has_mask] = known["in/target_prop"].bool()
    instances = Instances(
        (7, 7), gt_masks=BitMasks(masks), gt_has_mask=has_mask,
        proposal_boxes=Boxes(torch.tensor([[0.0, 0, 7, 7]]).expand(6, 4)),
    )  # fmt: skip
    taught = logits[has_mask[positive]][:, 0]
    return {
        "mid/class_saliency": maps.roll(1, 1),
        "out/saliency": saliency,
        "mid/weights": module.kernels(module.propagating(x)).sigmoid(),
        "mid/embedding": module.encoder(saliency[:, None]),
        "out/shape_activation": activation,
        "out/mask_logits": logits,
        "loss/activating": activating_loss(maps, classes),
        **{
            key.replace("loss_", "loss/"): loss
            for key, loss in head.propagating_loss(activation[:, 0], [instances]).items()
        },
        "loss/mask": F.binary_cross_entropy_with_logits(taught, known["in/target_mask"]),
    }


def test_outputs_and_losses_are_the_originals():
    known, module, head, _ = original()
    found = forward(known, module, head)
    found["mid/propagated"] = propagate(found["mid/embedding"], found["mid/weights"])
    assert found.keys() == {key for key in known if key[:4] in ("mid/", "out/", "loss")}
    for name, value in found.items():
        close(value, known[name])


@pytest.mark.parametrize("name", [*LOSSES, "total"])
def test_gradients_are_the_originals(name):
    known, module, head, layers = original()
    xs = [known[f"in/{key}"].requires_grad_() for key in ("roi_shapeprop", "roi_mask")]
    found = forward(known, module, head)
    sum(found[f"loss/{one}"] for one in (LOSSES if name == "total" else [name])).backward()
    for key, x in zip(("roi_shapeprop", "roi_mask"), xs, strict=True):
        expected = known.get(f"grad/{key}/{name}")
        assert (x.grad is None) == (expected is None)
        if expected is not None:
            close(x.grad, expected)
    if name == "total":
        for key, layer in layers.items():
            shift = 1 if layer is module.classifier else 0
            close(layer.weight.grad.roll(shift, 0), known[f"gw/{key}.weight"])
            close(layer.bias.grad.roll(shift, 0), known[f"gw/{key}.bias"])


@pytest.mark.parametrize("kind", ["latent", "agnostic"])
def test_propagation_is_the_originals(kind):
    known = {
        key.removeprefix(f"mp_{kind}/"): value for key, value in reference("shapeprop").items()
    }
    x, kernels = known["x"].requires_grad_(), known["w"].requires_grad_()
    y = propagate(x, kernels)
    close(y, known["y"])
    (y * known["cotangent"]).sum().backward()
    close(x.grad, known["gx"])
    close(kernels.grad, known["gw"])
    if kind == "agnostic":
        close(propagate(x, kernels, 2), known["y_2_steps"])


def test_initial_weights_are_the_originals():
    """He normal by fan-out for 3x3 convolutions, Caffe2's uniform Xavier for 1x1, no bias."""
    torch.manual_seed(0)
    module = ShapeProp(256, 256, 4, 80, 24)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            assert not layer.bias.any()
            if layer.weight.numel() > 10_000:
                wide = layer.kernel_size == (3, 3)
                bound = (2 / (9 * layer.out_channels)) ** 0.5 if wide else (1 / 256) ** 0.5
                assert layer.weight.std().item() == pytest.approx(bound, rel=0.02)
                assert (layer.weight.abs().max() > 1.8 * bound) == wide  # a uniform one has none


@torch.no_grad()
def test_the_saliency_is_of_the_predicted_class():
    heads = heads_of().eval()
    nn.init.normal_(heads.box_predictor.cls_score.weight)
    features, proposals = inputs()
    seen = {}
    heads.mask_pooler.register_forward_hook(lambda *args: seen.update(x=args[-1]))
    heads.shapeprop.register_forward_pre_hook(lambda _, args: seen.update(saliency=args[1]))
    found = heads._forward_mask(features, heads._forward_box(features, proposals))
    classes = torch.cat([image.pred_classes for image in found])
    assert len(classes.unique()) > 1
    maps = heads.shapeprop.classifier(heads.shapeprop.activating(seen["x"]))
    for n, c in enumerate(classes):
        torch.testing.assert_close(seen["saliency"][n], maps[n, c])


def test_saliency_learns_from_all_sampled_rois_and_all_classes():
    heads = heads_of()
    seen = {}
    heads.shapeprop.classifier.register_forward_hook(lambda *args: seen.update(maps=args[-1]))
    loss = losses_of(heads)["loss_activating"]
    (grad,) = torch.autograd.grad(loss, seen["maps"])
    assert len(grad) > 2 * 20  # proposals and ground truth of two images
    assert (grad.mean((2, 3)).abs() > 0).all()
    right = grad[:, :, 0, 0].argmin(1)  # only the right class's gradient is negative
    assert set(right.tolist()) == set(range(7))


@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
@pytest.mark.parametrize("name", ["loss_mask", "loss_propagating"])
def test_no_gradient_is_stopped(method, name):
    heads = heads_of(method, **AGNOSTIC)
    found = gradients(heads, losses_of(heads)[name])
    reached = [key for key in found if key.startswith("shapeprop")]
    assert all(found[key] for key in reached)
    prior = "prior" in method and name == "loss_mask"
    assert bool(found["box_head.conv1.weight"]) == prior
    assert not found["box_predictor.cls_score.weight"]


@pytest.mark.parametrize("loss", ["activating", "propagating"])
def test_losses_have_weights(loss):
    once, twice = (
        losses_of(heads_of(**{f"SHAPEPROP__{loss.upper()}_WEIGHT": weight}))[f"loss_{loss}"]
        for weight in ("1.0", "2.0")
    )
    assert once > 0
    torch.testing.assert_close(twice, 2 * once)


def test_the_activation_is_taught_the_objects_mask():
    """Of ground-truth boxes, so that the target is the triangle that the objects are."""
    heads = heads_of(METHOD | {"mask_rois": "gt"})
    seen = {}
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(a=args[0][:, -1], i=args))
    loss = losses_of(heads)["loss_propagating"]
    taught = seen["a"][torch.cat([image.gt_classes for image in seen["i"][1]]) < 3]
    assert (len(taught), len(seen["a"])) == (6, 12)
    rows, columns = np.mgrid[:7, :7]
    triangle = torch.from_numpy(columns > rows).float()  # COCO leaves the edge of a polygon out
    expected = F.binary_cross_entropy_with_logits(taught, triangle.expand(6, 7, 7))
    torch.testing.assert_close(loss, expected)


def test_novel_masks_and_memory_layout_do_not_matter():
    novel_masks_do_not_matter(heads_of())
    layout_does_not_matter(heads_of())


def test_losses_are_means_over_the_rois_of_all_ranks(monkeypatch):
    counted = {}

    def count(losses: dict, number: int) -> dict:
        counted.update(dict.fromkeys(losses, number))
        return losses

    monkeypatch.setattr("opmask.rivals.shapeprop.over_all_ranks", count)
    heads = heads_of(METHOD | {"mask_rois": "gt"})
    heads.shapeprop.classifier.register_forward_hook(lambda *args: counted.update(n=len(args[-1])))
    losses_of(heads)
    assert counted["loss_activating"] == counted["n"] > 12
    assert counted["loss_propagating"] == 2 * 3


@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
def test_nothing_supervised_teaches_nothing(method):
    heads = heads_of(method)
    losses = losses_of(heads, without_objects())
    assert losses["loss_mask"] == losses["loss_propagating"] == 0
    assert losses["loss_activating"] > 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


@torch.no_grad()
def test_nothing_found_has_no_masks():
    heads = heads_of(ROI_HEADS__SCORE_THRESH_TEST="2.0").eval()
    features, proposals = inputs()
    found = heads._forward_mask(features, heads._forward_box(features, proposals))
    assert [image.pred_masks.shape for image in found] == [(0, 1, 14, 14)] * 2


@pytest.mark.parametrize("combined", ["add", "concatenate"])
@pytest.mark.parametrize("grid", ["7", "14"])
def test_it_combines_with_the_prior_on_any_grid(grid, combined):
    method = PRIOR | {"prior_combined": combined}
    heads = heads_of(method, ROI_MASK_HEAD__POOLER_RESOLUTION=grid)
    seen = {}
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    losses = losses_of(heads)
    assert all(loss.isfinite() for loss in losses.values())
    assert seen["x"].shape[1:] == (17 + (combined == "concatenate"), int(grid), int(grid))


def test_bf16_is_near_float32():
    heads = heads_of(PRIOR)
    layers = (heads.shapeprop.activating, heads.shapeprop.encoder)
    bf16_is_near_float32(heads, layers, [torch.bfloat16, torch.float32])


def test_oracle_masks_are_of_their_class():
    masks = masks_of_given_boxes_stand_alone(
        tiny_cfg(PRIOR, MODEL__FPN__NORM="GN", MODEL__FPN__OUT_CHANNELS=32)
    )
    assert (masks[0] - masks[2]).abs().max() > 1e-3  # of one box


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD, MODEL__SHAPEPROP__LATENT_DIM=3), tmp_path)


@pytest.mark.slow
def test_a_run_trains_and_is_judged(tmp_path):
    trains_and_detects(tiny_cfg(METHOD, MODEL__SHAPEPROP__LATENT_DIM=3), tmp_path)


def test_without_its_mask_head_it_says_so():
    with pytest.raises(ValueError, match="ShapePropROIHeads needs mask_head: ShapePropMaskHead"):
        heads_of(METHOD | {"mask_head": "PriorMaskHead"})
