"""BoxInst's losses against its authors' numbers, and on the RoIs of the common base."""

from pathlib import Path

import opmask  # noqa: F401  before detectron2: spawned processes have no conftest.py

# isort: split
import pytest
import torch
import torch.distributed as dist
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
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
from test_method import build, targets
from test_over_ranks import alone  # noqa: F401 - a fixture
from torch import nn
from torch.nn import functional as F

from opmask.model.precision import use_precision

METHOD = {
    "components": "opmask.rivals.boxinst",
    "roi_heads": "BoxInstROIHeads",
    "mask_head": "BoxInstMaskHead",
    "mask_convs": 1,
}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
GT = PRIOR | {"mask_rois": "gt"}
BOTH = ("loss_projection", "loss_pairwise")
METHODS = pytest.mark.parametrize("method", [METHOD, PRIOR, GT])


def boxinst(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **changes).train()


@pytest.fixture(scope="module")
def known() -> dict[str, torch.Tensor]:
    return reference("boxinst")


def mask_head() -> nn.Module:
    from detectron2.config import CfgNode

    from opmask.rivals.boxinst import BoxInstMaskHead, add_config

    cfg = CfgNode({"MODEL": {}})
    add_config(cfg)
    return BoxInstMaskHead(
        ShapeSpec(channels=2), conv_dims=[2], num_classes=1, settings=cfg.MODEL.BOXINST, ramp=10000
    )


def test_colours_are_scikit_images(known):
    from opmask.rivals.boxinst import lab

    samples = known["rgb_samples"].double().T[None, :, :, None]
    torch.testing.assert_close(lab(samples)[0, ..., 0].T, known["lab_samples"], atol=1e-9, rtol=0)
    cells = F.avg_pool2d(known["image_bgr"], 4).flip(0)
    torch.testing.assert_close(lab(cells.floor()[None])[0], known["lab"], atol=1e-4, rtol=0)


def test_similarity_is_the_originals(known):
    from opmask.rivals.boxinst import similarity

    valid = known["image_valid"][None, 2::4, 2::4]
    found = similarity(known["lab"][None], valid, dilation=2)[0]
    torch.testing.assert_close(found, known["similarity"], atol=1e-6, rtol=1e-5)


def test_cells_in_boxes_are_the_originals(known):
    """It rounds boxes down to pixels first; a cell's middle is pixel 4 i + 2."""
    from opmask.rivals.boxinst import inside

    whole = torch.tensor([[0.0, 0, 48, 40]]).expand(3, 4)
    found = inside(known["boxes"].floor(), whole, (10, 12))
    assert torch.equal(found[:, None].double(), known["box_bitmask"])


def test_the_projection_loss_is_the_originals(known):
    from opmask.rivals.boxinst import projections

    logits = known["logits"].clone().requires_grad_()
    found = projections(logits[:, 0], known["box_bitmask"][:, 0])
    torch.testing.assert_close(found, known["dice_x_and_y"], atol=1e-12, rtol=0)
    loss = found.sum(0).mean()
    loss.backward()
    torch.testing.assert_close(loss, known["loss_projection"], atol=1e-12, rtol=0)
    torch.testing.assert_close(logits.grad, known["grad_projection"], atol=1e-12, rtol=0)


def test_the_pairwise_loss_is_the_originals(known):
    from opmask.rivals.boxinst import disagreement

    logits = known["logits"][:, 0].clone().requires_grad_()
    found = disagreement(logits, dilation=2)
    torch.testing.assert_close(found, known["pairwise_map"], atol=1e-12, rtol=0)
    weight = known["pair_weight"]
    similar = (known["similarity"] >= 0.3).expand(weight.shape)
    assert torch.equal((similar & (known["box_bitmask"] > 0)).double(), weight.double())
    ((found * weight).sum() / weight.sum()).backward()
    torch.testing.assert_close(logits.grad, known["grad_pairwise"][:, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("iteration", [0, 2500, 10000, 20000])
def test_both_losses_and_the_ramp_are_the_originals(known, iteration):
    in_box = known["box_bitmask"][:, 0] > 0
    similar = (known["similarity"] >= 0.3).expand(3, -1, -1, -1)
    with EventStorage(iteration):
        found = mask_head().box_losses(known["logits"][:, 0], in_box, similar)
    pairwise = known["loss_pairwise"] * min(iteration / 10000, 1)
    if iteration == 2500:
        pairwise = known["loss_pairwise_at_iter_2500"]
    expected = dict(zip(BOTH, (known["loss_projection"], pairwise), strict=True))
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, atol=1e-12, rtol=0)


RED, BLUE = (250.0, 20, 20), (30.0, 30, 240)


def two_colours(order: str, norm: tuple[list, list]) -> torch.Tensor:
    """A normalised image, red left of pixel 32 and blue right of it."""
    image = torch.tensor(RED)[:, None, None].expand(3, 64, 64).clone()
    image[:, :, 32:] = torch.tensor(BLUE)[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in norm)
    return (((image.flip(0) if order == "BGR" else image) - mean) / std)[None]


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_targets_of_a_roi(order):
    heads = boxinst()
    heads.bgr = order == "BGR"
    norm = [[100.0, 110, 120], [50.0, 55, 60]]
    heads.pixel_mean, heads.pixel_std = (torch.tensor(x)[:, None, None] for x in norm)
    roi, box = torch.tensor([[4.0, 8, 60, 64]]), torch.tensor([[10.0, 8.5, 57, 70]])
    image = Instances((64, 64), proposal_boxes=Boxes(roi), gt_boxes=Boxes(box))
    heads.add_targets(two_colours(order, norm), [image], (28, 28))  # cells of two pixels
    offsets = [(a, b) for a in (-2, 0, 2) for b in (-2, 0, 2) if a or b]
    for row in range(28):
        for column in range(28):
            x, y = 5 + 2 * column, 9 + 2 * row  # of the middle, in pixels
            assert image.in_box[0, row, column] == (10 <= x <= 57 and 8.5 <= y <= 70)
            for k, (down, right) in enumerate(offsets):
                other_row, other_column = row + down, column + right
                there = 0 <= other_row < 28 and 0 <= other_column < 28
                seen = 9 + 2 * other_row < 64 * (1 - 10 / 480)
                alike = (x < 32) == (5 + 2 * other_column < 32)
                assert image.similar[0, k, row, column] == (there and seen and alike)


def test_channels_are_in_the_models_order():
    noise = 110 + 20 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    roi, found = Boxes(torch.tensor([[0.0, 0, 64, 64]])), {}
    for order, image in (("BGR", noise), ("RGB", noise.flip(1)), ("RGB", noise)):
        cfg = tiny_cfg(METHOD, INPUT__FORMAT=order)
        heads = build_model(cfg).roi_heads
        mean, std = (torch.tensor(x)[:, None, None] for x in (cfg.MODEL.PIXEL_MEAN, [1.0] * 3))
        instances = Instances((64, 64), proposal_boxes=roi, gt_boxes=roi)
        heads.add_targets((image - mean) / std, [instances], (28, 28))
        found[order, image is noise] = instances.similar
    same, other = (
        (found["BGR", True] == found["RGB", is_noise]).float().mean() for is_noise in (False, True)
    )
    assert same > 0.999 and other < 0.98


def test_colours_are_those_of_the_roi_in_the_image():
    """Means of cells: of stripes a pixel wide, all the same, so that every pair is alike."""
    heads = boxinst()
    pixels = torch.zeros(2, 3, 64, 64)
    pixels[1, :, :, ::2] = 100.0
    rois = torch.tensor([[0.0, 0, 56, 56]])
    images = [
        Instances((64, 64), proposal_boxes=Boxes(rois), gt_boxes=Boxes(rois)) for _ in range(2)
    ]
    heads.add_targets(pixels, images, (28, 28))
    assert torch.equal(images[0].similar, images[1].similar)
    heads.add_targets(pixels, images, (56, 56))  # of a pixel
    assert images[1].similar.all(1)[:, 2:-2, 2:-2].all()  # two cells away: of the same stripe
    heads.boxinst.DILATION = 1
    heads.add_targets(pixels, images, (56, 56))
    assert images[0].similar[:, :, 2:-2, 2:-2].all()
    across = images[1].similar[0, :, 10, 10]
    assert across.tolist() == [k in (1, 6) for k in range(8)]  # above and below


@METHODS
def test_masks_are_learned_as_without_and_box_losses_reach_the_head(method):
    heads = boxinst(method)
    losses = losses_of(heads)
    plain = build({**method, "roi_heads": "OPMaskROIHeads", "mask_head": "PriorMaskHead"}).train()
    expected = losses_of(plain)
    for name, loss in expected.items():
        assert torch.equal(losses[name], loss), name
    assert set(losses) == {*expected, *BOTH}
    for name in BOTH:
        found = gradients(heads, losses_of(heads, iteration=5000)[name])
        assert all(found[key] for key in found if key.startswith("mask_head"))
        assert bool(found["box_head.conv1.weight"]) == ("prior" in method)
        assert not any(found[key] for key in found if key.startswith("box_predictor"))


def test_rois_with_a_mask_have_no_box_loss():
    given = targets()
    supervised = [image[torch.arange(3)] for image in given]
    losses = losses_of(boxinst(), supervised, iteration=5000)
    assert losses["loss_mask"] > 0
    assert losses["loss_projection"] == losses["loss_pairwise"] == 0
    for image in supervised:
        image.gt_has_mask = torch.tensor([True, True, False])
    losses = losses_of(boxinst(), supervised, iteration=5000)
    assert losses["loss_projection"] > 0 and losses["loss_pairwise"] > 0


@METHODS
def test_one_loss_a_roi(method):
    """By hand: the mean of both Dice losses, and of all pairs, over the novel classes' RoIs."""
    from opmask.rivals.boxinst import disagreement, projections

    heads, seen = boxinst(method), {}
    heads.mask_head.predictor.register_forward_hook(lambda *args: seen.update(x=args[-1]))
    positives = heads.positives

    def remember(proposals):
        seen["rois"] = positives(proposals)
        return seen["rois"]

    heads.positives = remember
    losses = losses_of(heads, iteration=100_000)
    dice, pairs, first = [], [], 0
    for image in seen["rois"]:
        for n in range(len(image)):
            if image.gt_classes[n] > 2:
                logits = seen["x"][first + n]
                dice.append(projections(logits, image.in_box[[n]].float()).sum())
                counted = image.similar[n] & image.in_box[n]
                pairs.append(disagreement(logits, 2)[0][counted])
        first += len(image)
    assert 3 < len(dice) < first
    torch.testing.assert_close(losses["loss_projection"], torch.stack(dice).mean())
    torch.testing.assert_close(losses["loss_pairwise"], torch.cat(pairs).mean())


def test_weights_and_ramp_are_settings():
    once = losses_of(boxinst(), iteration=100_000)
    changes = {"BOXINST__PROJECTION": "2.0", "BOXINST__PAIRWISE": "0.5"}
    twice = losses_of(boxinst(**changes), iteration=100_000)
    torch.testing.assert_close(twice["loss_projection"], 2 * once["loss_projection"])
    torch.testing.assert_close(twice["loss_pairwise"], once["loss_pairwise"] / 2)
    half = losses_of(boxinst(BOXINST__RAMP="4.0"), iteration=2000)  # of four times 1000
    torch.testing.assert_close(half["loss_pairwise"], once["loss_pairwise"] / 2)


def test_a_class_specific_head_learns_the_classs_own_mask():
    heads = boxinst(ROI_MASK_HEAD__CLS_AGNOSTIC_MASK="False")
    losses = losses_of(heads, iteration=5000)
    (losses["loss_projection"] + losses["loss_pairwise"]).backward()
    moved = heads.mask_head.predictor.weight.grad.flatten(1).any(1)
    assert moved.tolist() == [False] * 3 + [True] * 3


@METHODS
def test_novel_masks_and_memory_layout_do_not_matter(method):
    novel_masks_do_not_matter(boxinst(method))
    layout_does_not_matter(boxinst(method))


@METHODS
def test_images_without_objects(method):
    heads = boxinst(method)
    losses = losses_of(heads, without_objects())
    assert losses["loss_mask"] == 0 and losses["loss_projection"] > 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())
    nothing = without_objects()[1]
    losses = losses_of(heads, [nothing, nothing])
    assert all(losses[name] == 0 for name in ("loss_mask", *BOTH))
    assert all(losses[name].requires_grad for name in ("loss_mask", *BOTH))


@pytest.mark.parametrize("grid", ["7", "14"])
def test_the_grid_is_the_configurations(grid):
    losses = losses_of(boxinst(ROI_MASK_HEAD__POOLER_RESOLUTION=grid), iteration=5000)
    assert all(losses[name] > 0 for name in BOTH)


def test_bf16_is_near_float32():
    heads = boxinst(PRIOR)
    expected = losses_of(heads, iteration=5000)
    use_precision(nn.ModuleDict({"roi_heads": heads}), "bf16")
    found = losses_of(heads, iteration=5000)
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.02, atol=0)
    with torch.autocast("cpu", torch.bfloat16):  # a program's, around it all
        around = losses_of(heads, iteration=5000)
    torch.testing.assert_close(
        around["loss_projection"], expected["loss_projection"], rtol=0.02, atol=0
    )


def test_masks_of_oracle_boxes():
    masks_of_given_boxes_stand_alone(tiny_cfg(PRIOR))


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(GT), tmp_path)


@pytest.mark.parametrize("other", ["PriorMaskHead", "none"])
def test_another_mask_head_is_refused(other):
    with pytest.raises(ValueError, match="needs mask_head: BoxInstMaskHead$"):
        boxinst(METHOD | {"mask_head": other})


@pytest.mark.slow
def test_a_run(tmp_path):
    trains_and_detects(tiny_cfg(GT), tmp_path)


RANKS = 2


def box_losses(rows: slice) -> dict[str, torch.Tensor]:
    """Of some of four RoIs, the last of which has no like neighbours."""
    torch.manual_seed(0)
    logits, in_box, similar = (
        torch.randn(4, 6, 6),
        torch.rand(4, 6, 6) > 0.3,
        torch.rand(4, 8, 6, 6),
    )
    similar[3] = 0
    with EventStorage(5000):
        return mask_head().box_losses(logits[rows], in_box[rows], similar[rows] > 0.5)


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.save(box_losses((slice(3), slice(3, 4))[rank]), folder / f"{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.slow
def test_losses_of_two_processes_are_means_over_all_rois(tmp_path):
    torch.multiprocessing.spawn(_rank, (tmp_path,), RANKS)
    parts = [torch.load(tmp_path / f"{rank}.pth") for rank in range(RANKS)]
    for name, loss in box_losses(slice(None)).items():
        torch.testing.assert_close(sum(part[name] for part in parts) / RANKS, loss)
