"""The CPMask-like head against loops and numbers by hand, and on the common base."""

import numpy as np
import pytest
import torch
from rival_checks import (
    ddp_gets_every_gradient,
    gradients,
    layout_does_not_matter,
    losses_of,
    masks_of_given_boxes_stand_alone,
    novel_masks_do_not_matter,
    tiny_cfg,
    without_objects,
)
from test_method import build
from test_over_ranks import alone  # noqa: F401 - a fixture
from torch import nn

from opmask.model.precision import use_precision
from opmask.rivals import cpmask_like as cpmask_module
from opmask.rivals.cpmask_like import boundary, dice_loss, same_side

METHOD = {
    "components": "opmask.rivals.cpmask_like",
    "mask_head": "CPMaskLikeHead",
    "mask_convs": 4,
}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
LOSSES = ("loss_mask", "loss_boundary", "loss_affinity")


def cpmask_like(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **changes).train()


def test_the_boundary_equals_a_loop():
    masks = (np.random.default_rng(0).random((3, 6, 9)) > 0.4).astype(np.float32)
    masks[2] = 1  # whose boundary is not that of the grid
    expected = np.zeros_like(masks)
    for n, y, x in np.ndindex(*masks.shape):
        around = [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        values = {masks[n, a, b] for a, b in around if 0 <= a < 6 and 0 <= b < 9}
        expected[n, y, x] = len(values) > 1
    assert torch.equal(boundary(torch.from_numpy(masks)), torch.from_numpy(expected))


def test_dice_and_pairs_by_hand():
    a = torch.tensor([[[1.0, 0.5], [0, 0]], [[0, 0], [0, 0]]])
    b = torch.tensor([[[1.0, 1], [0, 0]], [[0, 0], [0, 1]]])
    assert dice_loss(a, b).item() == pytest.approx(((1 - 4 / 4.5) + (1 - 1 / 2)) / 2)
    pairs = same_side(torch.tensor([[[1.0, 0], [0, 1]]]))[0]
    assert pairs.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]


@torch.no_grad()
def test_affinities_equal_a_loop():
    head = cpmask_like().mask_head
    x = torch.randn(2, 16, 2, 3)
    out, logits = head.affinities(x)
    (query, key, value), pixels = (
        [f(x).flatten(2) for f in (head.query, head.key, head.value)],
        x.flatten(2),
    )
    weight, bias = head.attended.weight[:, :, 0, 0], head.attended.bias
    for n in range(2):
        for p in range(6):
            row = torch.stack([query[n, :, p] @ key[n, :, q] for q in range(6)]) / 8**0.5
            torch.testing.assert_close(logits[n, p], row)
            mean = sum(w * value[n, :, q] for q, w in enumerate(row.exp() / row.exp().sum()))
            expected = pixels[n, :, p] + weight @ mean + bias
            torch.testing.assert_close(out.flatten(2)[n, :, p], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
def test_masks_teach_all_branches_and_no_classifier(method):
    losses = losses_of(heads := cpmask_like(method))
    assert all(losses[name] > 0 for name in LOSSES)
    found = gradients(heads, sum(losses[name] for name in LOSSES))
    assert all(found[name] is not None for name in found if name.startswith("mask_head"))
    assert not any(found[name] for name in found if name.startswith("box_predictor"))
    assert bool(found["box_head.conv1.weight"]) == ("prior" in method)


def test_losses_are_means_over_the_supervised_rois_of_all_ranks(monkeypatch):
    """As `test_over_ranks` has it of the mask loss, whose RoIs they share."""
    seen = {}

    def halved(losses: dict, count: int) -> dict:
        seen[tuple(losses)] = count
        return {name: loss / 2 for name, loss in losses.items()}

    usual = losses_of(cpmask_like())
    monkeypatch.setattr("opmask.model.roi_heads.over_all_ranks", halved)
    monkeypatch.setattr("opmask.rivals.cpmask_like.over_all_ranks", halved)
    found = losses_of(cpmask_like())
    assert all(torch.equal(found[name], usual[name] / 2) for name in LOSSES)
    assert seen["loss_mask",] == seen["loss_boundary", "loss_affinity"] > 0


def test_branches_learn_the_masks_boundary_and_pairs(monkeypatch):
    """Against losses worked out from the logits and the crops of the masks."""
    heads, kept, crops = cpmask_like(), {}, []
    layers, crop = heads.mask_head.layers, cpmask_module.cropped

    def remembered(x):
        found = layers(x)
        kept["branches"] = heads.mask_head.branches
        return found

    def remembered_crop(instances, side):
        crops.append(crop(instances, side))
        return crops[-1]

    monkeypatch.setattr(heads.mask_head, "layers", remembered)
    monkeypatch.setattr(cpmask_module, "cropped", remembered_crop)
    head, seen = heads.mask_head, []
    head.register_forward_pre_hook(lambda _, args: seen.extend(i.gt_has_mask for i in args[1]))
    losses = losses_of(heads)
    taught = torch.cat(seen)
    edges, affinity = (logits[taught].detach().numpy() for logits in kept["branches"])
    target, coarse = boundary(crops[0]).numpy(), crops[1].flatten(1).numpy()
    assert 0 < target.mean() < 0.5 and len(edges) == len(target)

    def entropy(logits, wanted):
        return np.mean(np.logaddexp(0, logits) - wanted * logits)

    p = 1 / (1 + np.exp(-edges))
    both, either = (p * target).sum((1, 2)), p.sum((1, 2)) + target.sum((1, 2))
    dice = np.mean(1 - (2 * both + 1) / (either + 1))
    assert losses["loss_boundary"].item() == pytest.approx(entropy(edges, target) + dice, rel=1e-4)
    alike = (coarse[:, :, None] == coarse[:, None]).astype(float)
    assert losses["loss_affinity"].item() == pytest.approx(entropy(affinity, alike), rel=1e-4)


def test_weights_are_the_configurations():
    usual = losses_of(cpmask_like())
    found = losses_of(
        cpmask_like(CPMASK_LIKE__BOUNDARY_WEIGHT="3.0", CPMASK_LIKE__AFFINITY_WEIGHT="0.0")
    )
    torch.testing.assert_close(found["loss_boundary"], 3 * usual["loss_boundary"])
    assert found["loss_affinity"] == 0
    assert torch.equal(found["loss_mask"], usual["loss_mask"])


def test_novel_masks_and_memory_layout_do_not_matter():
    novel_masks_do_not_matter(cpmask_like())
    layout_does_not_matter(cpmask_like())


@pytest.mark.parametrize("agnostic", ["True", "False"])
@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
def test_nothing_supervised_teaches_nothing(method, agnostic):
    heads = cpmask_like(method, ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=agnostic)
    losses = losses_of(heads, without_objects())
    assert all(losses[name] == 0 for name in LOSSES)
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


def test_another_grid():
    losses = losses_of(cpmask_like(ROI_MASK_HEAD__POOLER_RESOLUTION="7"))
    assert all(losses[name].isfinite() for name in LOSSES)


def test_bf16_is_near_float32():
    heads = cpmask_like(PRIOR)
    expected = losses_of(heads)
    use_precision(nn.ModuleDict({"roi_heads": heads}), "bf16")
    for name, loss in losses_of(heads).items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.03, atol=0)


def test_oracle_masks_are_of_their_class():
    cfg = tiny_cfg(PRIOR, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    masks = masks_of_given_boxes_stand_alone(cfg, fit_norms=True)
    assert masks.shape == (6, 28, 28) and masks.std() > 0.1
    assert (masks[0] - masks[2]).abs().max() > 1e-3  # of one box


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD), tmp_path)
