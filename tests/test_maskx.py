"""Mask^X R-CNN against its authors' numbers, and on the common base."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from rival_checks import (
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

from opmask.model.precision import use_precision

METHOD = {
    "components": "opmask.rivals.maskx",
    "roi_heads": "MaskXROIHeads",
    "mask_head": "TransferMaskHead",
    "mask_convs": 1,
}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
AGNOSTIC = {"ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": "True"}
WITHOUT_MLP = {"MASKX__MLP": "False"}
# Narrow, so that the MLP is small.
NARROW = {"ROI_MASK_HEAD__CONV_DIM": "4"}


def maskx(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **(NARROW | changes)).train()


def original() -> tuple[nn.Module, dict[str, torch.Tensor], list[torch.Tensor]]:
    """Our last layers with the original's weights, its numbers, and the box head's weights.

    Classes are rolled by one, so that its background, class 0, is last. It has a mask there, too:
    to us it is a class like others, and a further row of the classifier is the background.
    """
    from opmask.rivals.maskx import TransferMaskHead, class_embeddings

    known = reference("maskx")
    head = TransferMaskHead(
        ShapeSpec(channels=4, height=3, width=3), conv_dims=[4], num_classes=1, embedding=5120,
        mlp=True,
    )  # fmt: skip
    head.deconv = head.deconv_relu = nn.Identity()  # the features are given
    for layer, name in (
        (head.transfer, "bbox2mask_mlp_l1"),
        (head.predictor, "mask_fcn_logits_w_flat"),
        (head.mlp, "mask_mlp_logits_raw"),
    ):
        layer.weight.data = known[f"w/{name}_w"].view_as(layer.weight)
        layer.bias.data = known[f"w/{name}_b"]
    scores = torch.cat([known["in/cls_score_w"].roll(-1, 0), torch.randn(1, 1024)])
    regression = known["in/bbox_pred_w"].view(4, 4, 1024).roll(-1, 0).reshape(16, 1024)
    box_weights = [scores.requires_grad_(), regression.requires_grad_()]
    head.embeddings = lambda: class_embeddings(*box_weights)
    return head, known, box_weights


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """float32; the original's own sums have another order."""
    torch.testing.assert_close(found, expected.view_as(found), rtol=1e-5, atol=1e-5)


def test_outputs_are_the_originals():
    head, known, _ = original()
    with torch.no_grad():
        close(head.filters(), known["out/mask_w"].roll(-1, 0))
        close(head.layers(known["in/x"]), known["out/logits"].roll(-1, 1))
        head.mlp = None
        close(head.layers(known["in/x"]), known["out/fcn"].roll(-1, 1))


@pytest.mark.parametrize("stopped", [True, False])
def test_gradients_are_the_originals(stopped):
    head, known, box_weights = original()
    if stopped:
        embed = head.embeddings
        head.embeddings = lambda: embed().detach()
    x = known["in/x"].requires_grad_()
    (head.layers(x) * known["in/cotangent"].roll(-1, 1)).sum().backward()
    close(x.grad, known["grad_stop/x"])
    for layer, name in (
        (head.transfer, "bbox2mask_mlp_l1"),
        (head.predictor, "mask_fcn_logits_w_flat"),
        (head.mlp, "mask_mlp_logits_raw"),
    ):
        close(layer.weight.grad, known[f"grad_stop/{name}_w"])
        close(layer.bias.grad, known[f"grad_stop/{name}_b"])
    if stopped:
        assert all(weights.grad is None for weights in box_weights)
        return
    scores, regression = (weights.grad for weights in box_weights)
    close(scores[:-1].roll(1, 0), known["grad_nostop/cls_score_w"])
    assert not scores[-1].any()
    close(
        regression.view(4, 4, 1024).roll(1, 0).reshape(16, 1024), known["grad_nostop/bbox_pred_w"]
    )


@pytest.mark.parametrize("changes", [{}, AGNOSTIC, {"MASKX__BOX_WEIGHTS": "False"}])
@torch.no_grad()
def test_a_class_is_known_by_its_own_weights(changes):
    heads = maskx(**changes)
    score, regression = heads.box_predictor.cls_score.weight, heads.box_predictor.bbox_pred.weight
    embeddings = heads.class_embeddings()
    for c in range(6):
        own = [score[c]] if changes else [score[c], *regression[4 * c : 4 * c + 4]]
        assert torch.equal(embeddings[c], torch.cat(own))
    assert heads.mask_head.filters().shape == (6, 4)


@torch.no_grad()
def test_the_mask_is_of_the_predicted_class():
    heads = maskx(**WITHOUT_MLP).eval()
    nn.init.normal_(heads.box_predictor.cls_score.weight)
    features, proposals = inputs()
    seen = {}
    heads.mask_head.deconv_relu.register_forward_hook(lambda *args: seen.update(x=args[-1]))
    found = heads._forward_mask(features, heads._forward_box(features, proposals))
    classes = torch.cat([image.pred_classes for image in found])
    masks = torch.cat([image.pred_masks for image in found])[:, 0]
    assert len(classes.unique()) > 1
    filters = heads.mask_head.filters()
    for n in range(0, len(classes), 7):
        logit = sum(filters[classes[n], k] * seen["x"][n, k] for k in range(4))
        torch.testing.assert_close(masks[n], logit.sigmoid())


@pytest.mark.parametrize("changes", [{}, AGNOSTIC | WITHOUT_MLP])
@pytest.mark.parametrize("method", [METHOD, PRIOR, PRIOR | {"mask_rois": "gt"}])
def test_mask_gradients_stop_at_the_box_heads_last_layers(changes, method):
    found = gradients(heads := maskx(method, **changes), losses_of(heads)["loss_mask"])
    last = [name for name in found if name.startswith("box_predictor")]
    assert not any(found[name] for name in last)
    assert all(found[name] > 0 for name in found if name.startswith("mask_head"))
    convolutions = [found[f"box_head.conv{k}.weight"] for k in range(1, 5)]
    assert all(convolutions) if "prior" in method else not any(convolutions)


def test_they_need_not():
    heads = maskx(METHOD | {"class_gradients": True})
    found = gradients(heads, losses_of(heads)["loss_mask"])
    assert found["box_predictor.cls_score.weight"] > 0
    assert found["box_predictor.bbox_pred.weight"] > 0
    assert found["box_predictor.bbox_pred.bias"] is None


def test_filters_are_of_the_true_class_and_follow_the_classifier():
    heads = maskx(**WITHOUT_MLP)
    before = losses_of(heads)["loss_mask"]
    with torch.no_grad():
        heads.box_predictor.cls_score.weight[3:] += 1  # of novel classes: none teaches a mask
        assert torch.equal(losses_of(heads)["loss_mask"], before)
        heads.box_predictor.cls_score.weight[:3] += 1
        assert not torch.equal(losses_of(heads)["loss_mask"], before)


def test_novel_masks_and_memory_layout_do_not_matter():
    novel_masks_do_not_matter(maskx())
    layout_does_not_matter(maskx())


@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
def test_nothing_supervised_teaches_nothing(method):
    heads = maskx(method)
    losses = losses_of(heads, without_objects())
    assert losses["loss_mask"] == 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


@pytest.mark.parametrize("grid", ["7", "14"])
def test_the_grid_is_the_configurations(grid):
    heads = maskx(ROI_MASK_HEAD__POOLER_RESOLUTION=grid)
    assert losses_of(heads)["loss_mask"].isfinite()
    assert heads.mask_head.mlp.out_features == (2 * int(grid)) ** 2


def test_bf16_is_near_float32():
    heads = maskx(PRIOR)
    expected = losses_of(heads)
    use_precision(nn.ModuleDict({"roi_heads": heads}), "bf16")
    found = losses_of(heads)
    assert heads.mask_head.filters().dtype == torch.float32
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.02, atol=0)


def test_oracle_masks_are_of_their_class():
    masks = masks_of_given_boxes_stand_alone(tiny_cfg(PRIOR, MODEL__ROI_MASK_HEAD__CONV_DIM=4))
    assert (masks[0] - masks[2]).abs().max() > 1e-3  # of one box


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD, MODEL__ROI_MASK_HEAD__CONV_DIM=4), tmp_path)


@pytest.mark.parametrize("other", ["PriorMaskHead", "none"])
def test_another_mask_head_is_refused(other):
    with pytest.raises(ValueError, match="needs mask_head: TransferMaskHead$"):
        maskx(METHOD | {"mask_head": other})


@pytest.mark.slow
def test_a_run(tmp_path):
    trains_and_detects(tiny_cfg(PRIOR, MODEL__ROI_MASK_HEAD__CONV_DIM=4), tmp_path)
