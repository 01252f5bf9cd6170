"""ShapeMask's equations against loops and finite differences, and on the common base."""

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from rival_checks import (
    bf16_is_near_float32,
    ddp_gets_every_gradient,
    gradients,
    layout_does_not_matter,
    losses_of,
    masks_of_given_boxes_stand_alone,
    novel_masks_do_not_matter,
    tiny_cfg,
    trains_and_detects,
    without_objects,
)
from scipy.cluster.vq import kmeans2
from test_method import SIZE, build, inputs
from test_method import targets as all_targets
from test_over_ranks import alone  # noqa: F401 - a fixture
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from opmask.errors import UserError
from opmask.model.config import paper_config
from opmask.rivals import shapemask
from opmask.rivals.shapemask import (
    ShapeMaskHead,
    frames,
    instance_embedding,
    k_means,
    resample,
    shape_priors,
)

METHOD = {
    "components": "opmask.rivals.shapemask",
    "roi_heads": "ShapeMaskROIHeads",
    "mask_head": "ShapeMaskHead",
    "mask_convs": 2,
}
GT = METHOD | {"mask_rois": "gt"}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
NARROW = {"SHAPEMASK__GRID": "8", "SHAPEMASK__PRIORS": "5", "SHAPEMASK__MASKS": "40"}
AGNOSTIC = {"ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": "True"}
LOSSES = {"loss_prior", "loss_coarse", "loss_mask"}


def heads_of(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **(NARROW | changes)).train()


def head(width: int = 256, convs: int = 4, **changes: object) -> ShapeMaskHead:
    cfg = paper_config(method=METHOD, backbone={"resnet": 50}, supervised=[0], num_classes=1)
    settings = cfg.MODEL.SHAPEMASK
    for key, value in changes.items():
        settings[key] = value
    return ShapeMaskHead(
        ShapeSpec(channels=width), settings=settings, warmup=1, num_classes=1,
        conv_dims=[width] * (convs + 1), conv_norm="BN",
    )  # fmt: skip


def small_head() -> ShapeMaskHead:
    """In float64, with shapes, and with weights that leave the coarse mask in and out."""
    torch.manual_seed(0)
    found = head(6, 1, GRID=4, PRIORS=3, MASKS=2).double().eval()
    found.priors = torch.rand(3, 4, 4).double()
    for layer in (found.coarse, found.predictor):
        nn.init.normal_(layer.weight, std=3)
        nn.init.constant_(layer.bias, 0.1)  # else logits are 0 where ReLUs are
    return found


INNER = torch.tensor([[10.0, 20, 50, 60], [0, 30, 8, 62]])
OUTER = torch.tensor([[5.0, 15, 55, 65], [0, 26, 9, 64]])


def test_it_is_as_large_as_the_original():
    """Millions of parameters, and 10⁹ products of a RoI, with those of the fine mask's last two
    layers, which are one here."""
    model, x, box = head(), torch.zeros(1, 256, 32, 32), INNER[:1]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 1.49
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        shapes = [found.shape for found in model.eval().layers(x, box, box)]
    assert shapes == [(1, 32, 32), (1, 32, 32), (1, 128, 128)]
    separate = 128 * 16 * 32**2 * (128 - 1) + 128 * 128**2
    assert round((counted.get_total_flops() / 2 + separate) / 1e9, 2) == 1.51


def test_outer_boxes_are_larger_and_in_the_image():
    proposed = [
        Instances((100, 80), proposal_boxes=Boxes(torch.tensor([[20.0, 40, 40, 80]]))),
        Instances(
            (50, 80), proposal_boxes=Boxes(torch.tensor([[0.0, 10, 40, 50], [72, 0, 80, 8]]))
        ),
    ]
    inner, outer = frames(proposed, 1.25)
    assert inner.tolist() == [[20, 40, 40, 80], [0, 10, 40, 50], [72, 0, 80, 8]]
    assert outer.tolist() == [[17.5, 35, 42.5, 85], [0, 5, 45, 50], [71, 0, 80, 9]]
    found = [Instances(i.image_size, pred_boxes=i.proposal_boxes) for i in proposed]
    assert torch.equal(frames(found, 1.25)[1], outer)


@pytest.mark.parametrize("repeat_rim", [False, True])
@pytest.mark.parametrize("source, target", [(INNER, OUTER), (OUTER, INNER)])
def test_resampling_is_a_loop_over_cells(source, target, repeat_rim):
    maps = torch.rand(2, 1, 5, 5, dtype=torch.float64)
    found = resample(maps, source, target, 7, repeat_rim=repeat_rim)

    def pixel(n: int, y: int, x: int) -> float:
        if repeat_rim:
            y, x = np.clip([y, x], 0, 4)
        return maps[n, 0, y, x].item() if 0 <= y < 5 and 0 <= x < 5 else 0.0

    for n, (own, other) in enumerate(zip(source.numpy(), target.numpy(), strict=True)):
        for row in range(7):
            for column in range(7):
                at = other[:2] + (np.array([column, row]) + 0.5) / 7 * (other[2:] - other[:2])
                u, v = (at - own[:2]) / (own[2:] - own[:2]) * 5 - 0.5
                x, y = int(np.floor(u)), int(np.floor(v))
                expected = sum(
                    (1 - abs(v - j)) * (1 - abs(u - i)) * pixel(n, j, i)
                    for j in (y, y + 1)
                    for i in (x, x + 1)
                )
                assert found[n, 0, row, column].item() == pytest.approx(expected, abs=1e-5)


def test_the_boxs_indicator_is_one_in_it_and_soft_at_its_rim():
    """Of 8 cells of an outer box of 80 pixels: a box from 15 to 65, in cells 1.5 to 6.5."""
    box, outer = torch.tensor([[15.0, 0, 65, 80]]), torch.tensor([[0.0, 0, 80, 80]])
    found = resample(torch.ones(1, 1, 8, 8), box, outer, 8)[0, 0]
    # Half a cell of the box, 50 / 8 / 2 pixels, to either side of its rim it falls from 1 to 0.
    assert found[3].tolist() == pytest.approx([0, 0.5, 1, 1, 1, 1, 0.5, 0], abs=1e-5)
    assert (found[3] == found[4]).all()


def test_the_instance_embedding_is_the_mean_where_the_coarse_mask_is():
    features, p = torch.randn(3, 4, 6, 6), torch.rand(3, 6, 6)
    p[1], p[2, 0, 0] = 0.5, 0.51  # in the second nothing exceeds 1/2
    found = instance_embedding(features, p)
    for n in range(3):
        inside = p[n] > 0.5
        expected = features[n][:, inside].mean(1) if inside.any() else torch.zeros(4)
        torch.testing.assert_close(found[n], expected)


def test_masks_are_what_the_equations_say():
    """Step by step, with torch's own layers for the fine mask's last two."""
    model = small_head()
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    prior, coarse, fine = model.layers(x, INNER, OUTER)
    y = model.reduce(x)
    inside = resample(torch.ones(2, 1, 4, 4).double(), INNER, OUTER, 4)
    weights = torch.softmax(model.weigh((y * inside).mean((2, 3))), dim=1)
    shapes = sum(weights[:, k, None, None] * model.priors[k] for k in range(3))
    own = resample(shapes[:, None], INNER, OUTER, 4)
    torch.testing.assert_close(prior, own[:, 0])
    first, second = model.mask_fcn1, model.mask_fcn2
    logits = model.coarse(first(y + model.of_prior(own)))
    torch.testing.assert_close(coarse, logits[:, 0])
    p = logits.sigmoid()
    assert 0 < (p > 0.5).sum() < p.numel()
    z = y - instance_embedding(y, p[:, 0])[:, :, None, None] + model.of_coarse(p)
    expected = model.predictor(model.deconv(second(z)))
    torch.testing.assert_close(fine, expected[:, 0])


def test_a_bias_makes_the_first_coarse_mask_unlikely():
    model = head(16, 1, GRID=8).eval()
    _, coarse, _ = model.layers(torch.zeros(1, 16, 8, 8), INNER[:1], OUTER[:1])
    torch.testing.assert_close(coarse.sigmoid(), torch.full((1, 8, 8), 0.01), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_gradients_flow_but_through_the_threshold():
    """By finite differences, so small that no probability crosses 1/2; nothing is stopped."""
    model = small_head()
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    box = INNER.double(), OUTER.double()
    _, coarse, _ = model.layers(x, *box)
    assert coarse.abs().min() > 1e-4
    assert torch.autograd.gradcheck(lambda x: model.layers(x, *box), x, eps=1e-6)
    for layer in (model.weigh, model.coarse, model.of_prior, model.deconv, model.predictor):

        def of(weight, layer=layer):
            return torch.func.functional_call(
                Called(model), {f"head.{name(model, layer)}.weight": weight}, (x.detach(), *box)
            )

        assert torch.autograd.gradcheck(of, layer.weight.detach().clone().requires_grad_())
    assert not model.priors.requires_grad


class Called(nn.Module):
    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.head.layers(*args)


def name(model: nn.Module, layer: nn.Module) -> str:
    return next(key for key, one in model.named_modules() if one is layer)


@pytest.mark.parametrize("loss, reached", [
    ("loss_prior", {"reduce", "weigh"}),
    ("loss_coarse", {"reduce", "weigh", "of_prior", "mask_fcn1", "mask_fcn2", "coarse"}),
    ("loss_mask", {"reduce", "weigh", "of_prior", "mask_fcn1", "mask_fcn2", "coarse", "of_coarse",
                   "mask_fcn3", "mask_fcn4", "deconv", "predictor"}),
])  # fmt: skip
@pytest.mark.parametrize("method", [METHOD, PRIOR])
def test_losses_reach_all_that_leads_to_them(method, loss, reached):
    heads = heads_of(method, **AGNOSTIC)
    nn.init.normal_(heads.mask_head.coarse.weight)
    heads.mask_head.priors, heads.mask_head.collecting = torch.rand(5, 8, 8), False
    found = gradients(heads, losses_of(heads)[loss])
    parts = {key.split(".")[1] for key, value in found.items() if value and "mask_head" in key}
    assert parts == reached
    assert bool(found["box_head.conv1.weight"]) == (method is PRIOR)
    assert not found["box_predictor.cls_score.weight"]


def test_losses_are_sums_over_the_objects_area_of_all_rois(monkeypatch):
    """Of three RoIs, one of a novel class, whose mask nobody reads: the mean shape's area."""
    counted = {}

    def count(losses: dict, number: int) -> dict:
        counted.update(dict.fromkeys(losses, number))
        return losses

    monkeypatch.setattr(shapemask, "over_all_ranks", count)
    model = head(16, 1, GRID=8, PRIORS=2, MASKS=1, PRIOR_WEIGHT=0.3, COARSE_WEIGHT=2.0)
    model.priors = torch.rand(2, 8, 8)
    inner = torch.tensor([[8.0, 8, 40, 40], [8, 8, 24, 24], [20, 4, 36, 36]])
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 12:36, 12:36] = masks[1, 10:20, 10:20] = masks[2] = True
    has_mask = torch.tensor([True, True, False])
    images = [
        Instances((64, 64), proposal_boxes=Boxes(inner[rows]), gt_masks=BitMasks(masks[rows]),
                  gt_has_mask=has_mask[rows])
        for rows in (slice(0, 1), slice(1, 3))
    ]  # fmt: skip
    _, outer = frames(images, 1.25)
    maps = [torch.rand(3, 8, 8), torch.randn(3, 8, 8), torch.randn(3, 32, 32)]
    found = model.losses(maps, inner, outer, images)
    errors, areas = [], []
    for part, logits in enumerate(maps):
        size = logits.shape[-1]
        box, around = ((b[2] - b[0]) * (b[3] - b[1]) for b in (inner[2], outer[2]))
        error, area = 0.0, (box / around * size**2 * model.priors.mean()).item()
        for n in range(2):
            target = BitMasks(masks[[n]]).crop_and_resize(outer[[n]], size)[0].double()
            one = logits[n].double()
            p = one.sigmoid()
            bce = -(target * p.log() + (1 - target) * (1 - p).log())
            error += ((one - target).square() / 2 if part == 0 else bce).sum().item()
            area += target.sum().item()
        errors.append(error)
        areas.append(int(area))
    assert found.keys() == LOSSES == counted.keys()
    for name, weight, error, area in zip(found, (0.3, 2, 1), errors, areas, strict=True):
        assert found[name].item() == pytest.approx(weight * error / area, rel=1e-5)
        assert counted[name] == area
    masks[2] = False
    assert model.losses(maps, inner, outer, images) == found


def test_k_means_is_scipys():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 6)) + 2 * rng.integers(0, 3, (200, 1))
    start = points[:7].copy()
    start[6] = 100  # has no points, and stays
    with pytest.warns(UserWarning, match="empty"):
        expected, _ = kmeans2(points, start, iter=shapemask.STEPS, minit="matrix")
    found = k_means(torch.from_numpy(points), torch.from_numpy(start))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert (found[6] == 100).all()


def test_shapes_are_the_clusters_of_masks():
    kinds = torch.zeros(3, 6, 6, dtype=torch.bool)
    kinds[0, :3], kinds[1, :, :3], kinds[2, 2:4, 2:4] = True, True, True
    masks = kinds.repeat(10, 1, 1)
    for number in (3, 5):  # of which two repeat others
        found = shape_priors(masks, number)
        assert found.shape == (number, 6, 6)
        assert {tuple(one.flatten().tolist()) for one in found} == {
            tuple(one.float().flatten().tolist()) for one in kinds
        }
        assert torch.equal(found, shape_priors(masks, number))
    (mean,) = shape_priors(masks, 1)
    torch.testing.assert_close(mean, kinds.float().mean(0))


def collected(model: ShapeMaskHead, masks: torch.Tensor, iteration: int) -> ShapeMaskHead:
    with EventStorage(iteration):
        model.collect(masks)
    return model


def test_shapes_are_the_mean_until_they_are_clustered():
    masks = torch.rand(9, 4, 4) < 0.5
    model = head(16, 1, GRID=4, PRIORS=3, MASKS=20, COLLECT=2.0)
    collected(model, masks[:0], 0)
    assert not model.priors.any()
    collected(model, masks[:4], 0)
    torch.testing.assert_close(model.priors, masks[:4].float().mean(0).expand(3, 4, 4))
    other = copy.deepcopy(model)
    other.load_state_dict(copy.deepcopy(model).state_dict())
    for one in (model, other):  # as resumed
        collected(one, masks[4:], 1)
        assert torch.equal(one.priors, shape_priors(masks, 3))
        assert one.collecting  # until it is asked again
        collected(one, masks[:2], 2)
        assert torch.equal(one.priors, shape_priors(masks, 3))
        assert not one.collecting


def test_no_more_masks_are_collected_than_there_is_room_for():
    masks = torch.rand(9, 4, 4) < 0.5
    model = collected(head(16, 1, GRID=4, PRIORS=3, MASKS=7, COLLECT=99.0), masks, 0)
    assert torch.equal(model.priors, shape_priors(masks[:7], 3))


def test_masks_of_all_ranks_are_clustered_by_one(monkeypatch):
    masks, others = torch.rand(5, 4, 4) < 0.5, torch.rand(4, 4, 4) < 0.5

    def gather(data: object) -> list:
        made_by_first = torch.full((3, 4, 4), 0.25)
        return [made_by_first, None] if data is None else [others, data]

    monkeypatch.setattr(comm, "all_gather", gather)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    model = collected(head(16, 1, GRID=4, PRIORS=3, MASKS=20, COLLECT=2.0), masks, 0)
    torch.testing.assert_close(model.priors[0], torch.cat([others, masks]).float().mean(0))
    assert (collected(model, masks, 1).priors == 0.25).all()


def test_only_masks_of_supervised_objects_are_collected_each_once():
    heads = heads_of(SHAPEMASK__MASKS="60")
    targets = all_targets(lambda image, c: None if c < 3 else [np.array([0.0, 0, 1, 0, 0, 50])])
    for image in targets:
        image.gt_has_mask = torch.tensor([True, False, True, True, True, True])
    losses_of(heads, targets, iteration=0)
    (heads_count,) = {int(heads.mask_head.count)}
    assert heads_count == 2 * 2
    rows, columns = np.mgrid[:8, :8]
    triangle = torch.from_numpy(columns > rows)
    assert torch.equal(heads.mask_head.masks[:4], triangle.expand(4, 8, 8))


def test_without_any_mask_it_waits_for_the_first():
    heads = heads_of(SHAPEMASK__COLLECT="0.0")
    losses_of(heads, without_objects(), iteration=3)
    assert heads.mask_head.collecting and not heads.mask_head.priors.any()
    losses_of(heads, iteration=4)
    assert heads.mask_head.priors.any() and heads.mask_head.count == len(heads.mask_head.masks)


def test_the_box_is_cut_out_of_the_fine_mask():
    """Masks that show where a cell's middle is in the image, pasted, stay there."""
    heads = heads_of().eval()
    features, proposals = inputs()
    rows, columns = torch.meshgrid(*[(torch.arange(32) + 0.5) / 32] * 2, indexing="ij")

    def ramps(x, inner, outer):
        low, side = outer[:, :2], outer[:, 2:] - outer[:, :2]
        at = low[:, 0, None, None] + side[:, 0, None, None] * columns
        return x[:, 0], x[:, 0], at / 100 - 0.3

    heads.mask_head.layers = ramps
    with torch.no_grad():
        found = heads._forward_mask(features, heads._forward_box(features, proposals))
    for image in found:
        boxes, masks = image.pred_boxes.tensor, image.pred_masks[:, 0]
        assert masks.shape[1:] == (32, 32)
        x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * columns[0]
        inside = (boxes[:, 2] - boxes[:, 0]) > 8
        left = boxes[:, 0] > 3  # else the outer box is no wider there, and its rim repeats
        right = boxes[:, 2] < SIZE[1] - 3
        whole = inside & left & right
        assert whole.any()
        expected = (x / 100 - 0.3).sigmoid()[:, None].expand_as(masks)
        torch.testing.assert_close(masks[whole], expected[whole], rtol=0, atol=1e-4)


def test_features_are_of_outer_boxes_and_the_map_of_the_box():
    heads = heads_of(PRIOR, ROI_HEADS__SCORE_THRESH_TEST="0.0").eval()
    features, proposals = inputs()
    seen, one = {}, torch.ones
    heads.mask_pooler.register_forward_hook(lambda _, args, out: seen.update(boxes=args[1], x=out))
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(y=args[0]))
    with torch.no_grad():
        detected = heads._forward_box(features, proposals)
        inner, outer = frames(detected, 1.25)
        heads.min_max = False
        heads.kind_at_test = lambda cam_of, classes, *_: one(len(classes), 7, 7)
        heads._forward_mask(features, detected)
    assert torch.equal(torch.cat([b.tensor for b in seen["boxes"]]), outer)
    expected = resample(one(len(inner), 1, 8, 8), inner, outer, 8).expand_as(seen["x"])
    torch.testing.assert_close(seen["y"] - seen["x"], expected, rtol=0, atol=1e-5)
    assert seen["x"].shape[2:] == (8, 8)


def test_novel_masks_and_memory_layout_do_not_matter():
    for method in (METHOD, GT):
        novel_masks_do_not_matter(heads_of(method))
    layout_does_not_matter(heads_of())


@pytest.mark.parametrize("method", [METHOD, PRIOR | {"mask_rois": "gt"}])
def test_nothing_supervised_teaches_nothing(method):
    heads = heads_of(method)
    losses = losses_of(heads, without_objects())
    assert all(losses[name] == 0 for name in LOSSES)
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


def test_no_object_teaches_nothing():
    heads, none = heads_of(GT), [copy.deepcopy(without_objects()[1]) for _ in range(2)]
    losses = losses_of(heads, none)
    assert all(losses[name] == 0 for name in LOSSES)
    found = gradients(heads, sum(losses.values()))
    assert all(value is not None for key, value in found.items() if "mask_head" in key)


@torch.no_grad()
def test_nothing_found_has_no_masks():
    heads = heads_of(ROI_HEADS__SCORE_THRESH_TEST="2.0").eval()
    features, proposals = inputs()
    found = heads._forward_mask(features, heads._forward_box(features, proposals))
    assert [image.pred_masks.shape for image in found] == [(0, 1, 32, 32)] * 2


@pytest.mark.parametrize("combined", ["add", "concatenate", "multiply"])
@pytest.mark.parametrize("grid", ["7", "14"])
def test_it_combines_with_the_prior_on_any_grid(grid, combined):
    heads = heads_of(PRIOR | {"prior_combined": combined}, SHAPEMASK__GRID=grid)
    losses = losses_of(heads)
    assert losses.keys() >= LOSSES
    assert all(loss.isfinite() for loss in losses.values())


def test_bf16_is_near_float32():
    heads = heads_of()
    heads.mask_head.priors, heads.mask_head.collecting = torch.rand(5, 8, 8), False
    layers = (heads.mask_head.mask_fcn1, heads.mask_head.weigh)
    bf16_is_near_float32(heads, layers, [torch.float32, torch.bfloat16])


def test_oracle_masks_stand_alone():
    masks_of_given_boxes_stand_alone(
        tiny_cfg(METHOD, MODEL__FPN__NORM="GN", MODEL__FPN__OUT_CHANNELS=32)
    )


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD, MODEL__SHAPEMASK__GRID=8), tmp_path)


@pytest.mark.slow
def test_a_run_trains_and_is_judged(tmp_path):
    trains_and_detects(tiny_cfg(METHOD, MODEL__SHAPEMASK__PRIORS=4), tmp_path)


def test_what_it_cannot_do_it_says():
    with pytest.raises(ValueError, match="ShapeMaskROIHeads needs mask_head: ShapeMaskHead"):
        heads_of(METHOD | {"mask_head": "PriorMaskHead"})
    with pytest.raises(UserError, match="CLS_AGNOSTIC_MASK: ShapeMaskHead needs true"):
        heads_of(ROI_MASK_HEAD__CLS_AGNOSTIC_MASK="False")
