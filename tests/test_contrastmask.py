"""ContrastMask against its authors' numbers, and on the common base."""

import numpy as np
import pytest
import torch
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

from opmask.model.roi_heads import is_ground_truth
from opmask.rivals.contrastmask import (
    contrast_loss,
    contrast_terms,
    edge_map,
    enhance,
    sample,
    select_points,
)

METHOD = {
    "components": "opmask.rivals.contrastmask",
    "roi_heads": "ContrastMaskROIHeads",
    "mask_head": "PriorMaskHead",
    "mask_convs": 1,
    "prior": True,
    "mask_gradients": True,
}
GT = METHOD | {"mask_rois": "gt"}
NARROW = {"CONTRASTMASK__NUM_CONV": "2", "ROI_MASK_HEAD__POOLER_RESOLUTION": "7"}
AGNOSTIC = {"ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": "True"}
WITHOUT_PRIOR = {key: METHOD[key] for key in ("components", "roi_heads", "mask_head", "mask_convs")}


def heads_of(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **(NARROW | changes)).train()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def original():
    """Its numbers, and ours of its inputs: the points."""
    known = reference("contrastmask")
    low, high = (getattr(known["cams"], side)((1, 2), keepdim=True) for side in ("amin", "amax"))
    cams, masks = (known["cams"] - low) / (high - low), known["masks"].bool()
    return known, select_points(cams, masks, known["edges"].bool(), ~known["is_novel"])


def test_points_are_the_originals():
    known, points = original()
    for name, region in points._asdict().items():
        assert torch.equal(region, known[name]), name
    assert torch.equal(edge_map(known["masks"].bool()), known["edges"].bool())


def test_loss_and_gradient_are_the_originals():
    known, points = original()
    projected = known["projected"].requires_grad_()
    close(contrast_terms(projected, points), known["loss_terms"])
    loss, count = contrast_loss(projected, points, 1)
    assert count == known["keeps"].sum() == 4
    loss = loss * 0.75 * 0.1
    close(loss, known["loss"])
    loss.backward()
    close(projected.grad, known["grad_projected"])


def test_enhancement_is_the_originals():
    known = reference("contrastmask")
    close(enhance(known["enhance_in"]), known["enhance_out"])


def test_rois_with_few_points_are_left_out():
    known, points = original()
    for region in points[3], points[4]:  # of one RoI four keys are left, of another none
        few = type(points)(*(one.clone() for one in points))
        for k, one in enumerate(points):
            if one is region:
                few[k][0] &= few[k][0].flatten().cumsum(0).view(28, 28) <= 4
                few[k][3] = False
        loss, count = contrast_loss(known["projected"], few, 1)
        rest = type(points)(*(one[[1, 2]] for one in points))
        close(loss, contrast_terms(known["projected"][[1, 2]], rest).sum())
        assert count == 2
    nothing = type(points)(*(torch.zeros_like(one) for one in points))
    projected = known["projected"].requires_grad_()
    loss, count = contrast_loss(projected, nothing, 1)
    loss.backward()
    assert (loss, count) == (0, 0)
    assert not projected.grad.any()


def test_tiny_masks_take_the_maps_query():
    cams, masks = torch.rand(2, 9, 9), torch.zeros(2, 9, 9, dtype=torch.bool)
    masks[0, 4, 4], masks[1] = True, True  # one pixel; all but none
    both = select_points(cams, masks, edge_map(masks), torch.ones(2, dtype=torch.bool))
    assert torch.equal(both.query_pos[0], cams[0] > 0.95)
    assert torch.equal(both.query_neg[0], ~masks[0])
    assert torch.equal(both.query_pos[1], masks[1])
    assert torch.equal(both.query_neg[1], cams[1] < 0.05)


def test_a_share_of_each_rois_points_is_sampled():
    region = torch.rand(5, 20, 20) < torch.tensor([0, 0.002, 0.1, 0.5, 1])[:, None, None]
    chosen = [sample(region, 0.3) for _ in range(200)]
    for one in chosen:
        assert not (one & ~region).any()
        assert torch.equal(one.sum((1, 2)), (0.3 * region.sum((1, 2))).ceil().long())
    often = torch.stack(chosen).float().mean(0)[region]
    assert often.min() > 0.1  # none is left out: 0.3, give or take 0.03
    assert torch.equal(sample(region, 1), region)


@pytest.mark.parametrize("method", [METHOD, GT, WITHOUT_PRIOR])
def test_gradients_stop_where_the_originals_do(method):
    """The contrast teaches its own head alone; the mask also encodes, and the prior's box head."""
    heads = heads_of(method, **AGNOSTIC)
    own = {"contrastive_head.encoder", "contrastive_head.projector"}
    features = {name: maps.requires_grad_() for name, maps in inputs()[0].items()}
    losses = losses_of(heads, features=features)
    assert losses["loss_contrast"] > 0
    assert not any(
        grad is not None and grad.any()
        for grad in torch.autograd.grad(
            losses["loss_contrast"], features.values(), allow_unused=True, retain_graph=True
        )
    )
    found = gradients(heads, losses["loss_contrast"])
    reached = {name for name, value in found.items() if value}
    assert {".".join(name.split(".")[:2]) for name in reached} == own
    assert not any(name.startswith("box_") for name in reached)
    found = gradients(heads, losses_of(heads)["loss_mask"])
    assert found["contrastive_head.encoder.0.weight"] > 0
    assert found["contrastive_head.fuse.weight"] > 0
    assert found["contrastive_head.projector.0.weight"] is None
    assert bool(found["box_head.conv1.weight"]) == ("prior" in method)


def test_contrast_is_of_all_positives_masks_of_ground_truth(monkeypatch):
    """Of 12 objects, 6 supervised: the other positives are contrasted but teach no mask."""
    heads, seen, counted = heads_of(GT), {}, {}

    def count(losses: dict, number: int) -> dict:
        counted.update(dict.fromkeys(losses, number))
        return losses

    monkeypatch.setattr("opmask.rivals.contrastmask.over_all_ranks", count)
    monkeypatch.setattr("opmask.model.roi_heads.over_all_ranks", count)
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(instances=args[1]))
    losses_of(heads)
    by_mask, taught = (
        torch.cat([image.get(key) for image in seen["instances"]])
        for key in ("contrast_by_mask", "gt_has_mask")
    )
    classes = torch.cat([image.gt_classes for image in seen["instances"]])
    assert torch.equal(by_mask, classes < 3)
    assert taught.sum() == counted["loss_mask"] == 6 < by_mask.sum()
    assert 0 < counted["loss_contrast"] <= len(classes)
    heads = heads_of()
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(instances=args[1]))
    losses_of(heads)
    assert all(torch.equal(i.contrast_by_mask, i.gt_has_mask) for i in seen["instances"])


@pytest.mark.parametrize("min_max", [True, False])
def test_points_are_of_the_objects_masks_and_maps(min_max, monkeypatch):
    heads, seen = heads_of(METHOD | {"prior_min_max": min_max}), {}

    def spy(*args: torch.Tensor):
        seen.update(zip(("cams", "masks", "edges", "has_mask"), args, strict=True))
        return select_points(*args)

    monkeypatch.setattr("opmask.rivals.contrastmask.select_points", spy)
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(instances=args[1]))
    losses_of(heads)
    truth = torch.cat([is_ground_truth(image) for image in seen["instances"]])
    classes = torch.cat([image.gt_classes for image in seen["instances"]])
    rows, columns = np.mgrid[:14, :14]
    triangle = torch.from_numpy(columns > rows)  # COCO leaves the edge of a polygon out
    assert torch.equal(seen["has_mask"], classes < 3)
    assert (seen["masks"][truth & (classes < 3)] == triangle).all()
    assert not seen["masks"][classes >= 3].any()
    assert torch.equal(seen["edges"], edge_map(seen["masks"]))
    assert (seen["cams"].amin((1, 2)) == 0).all()
    assert seen["cams"].amax((1, 2)).allclose(torch.ones(len(classes)))
    assert not seen["cams"].requires_grad


def test_the_prior_is_scaled_after_it_was_resized():
    heads = heads_of(ROI_MASK_HEAD__POOLER_RESOLUTION="14").eval()
    features, proposals = inputs()
    with torch.no_grad():
        found = heads._forward_box(features, proposals)
        prior = heads.object_mask_prior(features, found, (14, 14))
    assert prior.amax((1, 2, 3)).allclose(torch.ones(len(prior)))
    assert not prior.amin((1, 2, 3)).any()


def test_the_loss_grows():
    heads = heads_of()
    heads.ramp = 1000
    found = [losses_of(heads, iteration=k)["loss_contrast"] for k in (1, 250, 500, 1000, 5000)]
    for loss, part in zip(found, (0.25, 0.25, 0.5, 1, 1), strict=True):
        torch.testing.assert_close(loss, found[-1] * part)
    cfg = tiny_cfg(METHOD)
    assert cfg.MODEL.CONTRASTMASK.RAMP * 1000 * 12 == 4 * 90000  # warm-ups of 1000 iterations


def test_novel_masks_and_memory_layout_do_not_matter():
    novel_masks_do_not_matter(heads_of())
    heads = heads_of(CONTRASTMASK__SAMPLED="1.0")
    layout_does_not_matter(heads)


@pytest.mark.parametrize("method", [METHOD, GT])
def test_nothing_supervised_teaches_no_mask(method):
    heads = heads_of(method)
    losses = losses_of(heads, without_objects())
    assert losses["loss_mask"] == 0
    assert losses["loss_contrast"].isfinite()  # of the maps
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


def test_nothing_positive_teaches_nothing():
    heads = heads_of()
    _, empty = without_objects()
    losses = losses_of(heads, [empty, empty])
    assert losses["loss_mask"] == losses["loss_contrast"] == 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


@torch.no_grad()
def test_nothing_found_has_no_masks():
    heads = heads_of(ROI_HEADS__SCORE_THRESH_TEST="2.0").eval()
    features, proposals = inputs()
    found = heads._forward_mask(features, heads._forward_box(features, proposals))
    assert [image.pred_masks.shape for image in found] == [(0, 1, 14, 14)] * 2


@pytest.mark.parametrize("combined", ["add", "concatenate", "multiply"])
@pytest.mark.parametrize("grid", ["7", "14"])
def test_any_grid_and_prior(grid, combined):
    heads = heads_of(METHOD | {"prior_combined": combined}, ROI_MASK_HEAD__POOLER_RESOLUTION=grid)
    assert all(loss.isfinite() for loss in losses_of(heads).values())
    assert heads.contrast_pooler.output_size == (2 * int(grid),) * 2


def test_bf16_is_near_float32():
    heads = heads_of(CONTRASTMASK__SAMPLED="1.0")
    layers = (heads.contrastive_head.encoder, heads.contrastive_head.fuse)
    bf16_is_near_float32(heads, layers, [torch.bfloat16, torch.float32])


def test_oracle_masks_are_of_their_class():
    cfg = tiny_cfg(
        METHOD, MODEL__FPN__NORM="GN", MODEL__FPN__OUT_CHANNELS=32, MODEL__CONTRASTMASK__NUM_CONV=2,
        MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION=7,
    )  # fmt: skip
    masks = masks_of_given_boxes_stand_alone(cfg)
    assert (masks[0] - masks[2]).abs().max() > 1e-3  # of one box


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD, MODEL__CONTRASTMASK__NUM_CONV=2), tmp_path)


@pytest.mark.slow
def test_a_run_trains_and_is_judged(tmp_path):
    trains_and_detects(tiny_cfg(GT, MODEL__CONTRASTMASK__NUM_CONV=2), tmp_path)


def test_without_its_mask_head_it_says_so():
    with pytest.raises(ValueError, match="ContrastMaskROIHeads needs mask_head: PriorMaskHead"):
        heads_of(METHOD | {"mask_head": "none"})
