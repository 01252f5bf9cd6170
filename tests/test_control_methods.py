"""Each switch of a control does what its name says, on the real heads, and no more."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from test_method import OPMASK, SIZE, SUPERVISED, build, gradients, inputs, losses_of, targets

from opmask.model import priors
from opmask.model.roi_heads import COMBINED
from study.spec.params import load_params
from study.spec.schema import SCHEMA

METHODS = load_params(Path(__file__).parents[1] / "params.yaml")["methods"]
CONTROLS = [name for name, one in METHODS.items() if one["mask_head"] != "none"]
CLASSES = torch.tensor([0, 1, 2, 3, 4, 5] * 5)
MAPS = torch.arange(30.0)[:, None, None] + torch.rand(6, 30, 7, 7)  # of each class, each RoI's own


def cam_of(classes: torch.Tensor) -> torch.Tensor:
    return MAPS[classes, torch.arange(len(classes))]


def drawn(kind: str, seed: int = 0, classes: torch.Tensor = CLASSES) -> torch.Tensor:
    return priors.PRIORS[kind](cam_of, classes, 6, torch.Generator().manual_seed(seed))


def test_the_parameters_may_name_what_is_registered():
    keys = SCHEMA["paper.yaml"]["methods"]["each"]["keys"]
    assert keys["prior_kind"]["choices"] == list(priors.PRIORS)
    assert keys["prior_combined"]["choices"] == list(COMBINED)


def test_the_papers_prior_is_the_map_of_the_rois_class():
    assert torch.equal(drawn("cam"), cam_of(CLASSES))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_maps_are_those_of_other_rois(seed):
    """Each map is used once, whole, by a RoI that is not its own."""
    found, own = drawn("shuffled", seed), cam_of(CLASSES)
    order = [[torch.equal(one, other) for other in own].index(True) for one in found]
    assert sorted(order) == list(range(30)) and all(n != k for n, k in enumerate(order))
    assert not torch.equal(found, drawn("shuffled", seed + 1))
    assert torch.equal(drawn("shuffled", 0, CLASSES[:1]), cam_of(CLASSES[:1]))


def test_a_random_class_is_never_the_true_one_and_every_other():
    chosen = [set() for _ in range(30)]
    for seed in range(200):
        for n, one in enumerate(drawn("random_class", seed)):
            (index,) = [c for c in range(6) if torch.equal(one, MAPS[c, n])]
            chosen[n].add(index)
    assert all(chosen[n] == set(range(6)) - {c} for n, c in enumerate(CLASSES.tolist()))


def test_a_gaussian_is_centred_in_the_box_and_falls_with_distance():
    (found,) = drawn("gaussian").unique(dim=0)  # the same for every RoI
    x = (np.arange(7) - 3) / 7  # of a box's side
    expected = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 0.25**2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def given_to_mask_head(method: dict, training: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """What the mask head gets, and the pooled features it is made from."""
    heads, seen = build(method).train(training), {}
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(x=args[0].clone()))
    heads.mask_pooler.register_forward_hook(lambda _, args, out: seen.update(pooled=out.clone()))
    if training:
        losses_of(heads, targets())
    else:
        with torch.no_grad():
            heads(ImageList(torch.zeros(2, 3, *SIZE), [SIZE] * 2), *inputs())
    return seen["x"].detach(), seen["pooled"].detach()


@pytest.mark.parametrize("training", [True, False])
def test_a_constant_prior_adds_the_same_everywhere(training):
    method = {**OPMASK, "prior_kind": "constant", "prior_min_max": False}
    x, pooled = given_to_mask_head(method, training)
    torch.testing.assert_close(x - pooled, torch.full_like(x, 0.5))


def test_the_three_ways_to_combine():
    added, pooled = given_to_mask_head(OPMASK, training=True)
    prior = (added - pooled)[:, :1]
    multiplied, _ = given_to_mask_head({**OPMASK, "prior_combined": "multiply"}, training=True)
    torch.testing.assert_close(multiplied, pooled * prior, atol=1e-5, rtol=1e-4)
    joined, _ = given_to_mask_head({**OPMASK, "prior_combined": "concatenate"}, training=True)
    assert torch.equal(joined[:, :-1], pooled) and joined.shape[1] == pooled.shape[1] + 1
    torch.testing.assert_close(joined[:, -1:], prior, atol=1e-5, rtol=1e-4)


def test_without_min_max_the_map_itself_is_added():
    scaled, pooled = given_to_mask_head(OPMASK)
    raw, _ = given_to_mask_head({**OPMASK, "prior_min_max": False})
    a, b = ((x - pooled)[:, 0].flatten(1) for x in (scaled, raw))
    assert a.amin() > -1e-5 and b.amin() < -0.01
    for one, other in zip(a, b, strict=True):  # resizing keeps that one is linear in the other
        assert np.corrcoef(one, other)[0, 1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["shuffled", "random_class"])
def test_at_test_only_is_at_test_only(kind):
    method = {**OPMASK, "prior_kind_at_test": kind}
    for training in (True, False):
        usual, _ = given_to_mask_head(OPMASK, training)
        found, _ = given_to_mask_head(method, training)
        assert torch.equal(found, usual) is training
        everywhere, _ = given_to_mask_head({**OPMASK, "prior_kind": kind}, training)
        assert torch.equal(found, everywhere) is not training


@pytest.mark.parametrize("kind", ["shuffled", "random_class"])
def test_what_is_drawn_at_test_does_not_depend_on_what_came_before(kind):
    heads = build({**OPMASK, "prior_kind": kind}).eval()
    images = ImageList(torch.zeros(2, 3, *SIZE), [SIZE] * 2)
    with torch.no_grad():
        first, second = (heads(images, *inputs())[0] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert len(one) and torch.equal(one.pred_masks, other.pred_masks)


def test_attached_class_weights_learn_from_masks():
    heads = build({**OPMASK, "class_gradients": True}).train()
    found = gradients(heads, losses_of(heads, targets())["loss_mask"])
    assert found["box_predictor.cls_score.weight"] > 0
    assert found["box_predictor.bbox_pred.weight"] == 0


@pytest.mark.parametrize("prior", [True, False])
def test_masks_are_learned_on_every_ground_truth_box_and_on_no_other(prior):
    method = {**OPMASK, "prior": prior, "mask_gradients": prior, "mask_rois": "gt"}
    heads, seen = build(method, ROI_HEADS__BATCH_SIZE_PER_IMAGE=8).train(), {}
    heads.mask_head.register_forward_pre_hook(lambda _, args: seen.update(rois=args[1]))
    heads.box_predictor.register_forward_hook(lambda _, args, out: seen.update(n=len(out[0])))
    features, proposals = inputs()
    for image, truth in zip(proposals, targets(), strict=True):
        image.proposal_boxes.tensor[:6] = truth.gt_boxes.tensor + 1  # positive, and not the truth
    with EventStorage():
        images = ImageList(torch.zeros(2, 3, *SIZE), [SIZE] * 2)
        _, losses = heads(images, features, proposals, targets())
    for image, truth in zip(seen["rois"], targets(), strict=True):
        boxes = image.proposal_boxes.tensor
        assert sorted(boxes.tolist()) == sorted(truth.gt_boxes.tensor.tolist())
        assert torch.equal(image.gt_classes, (boxes[:, 0] / 4).long())
        assert image.gt_has_mask.tolist() == [c in SUPERVISED for c in image.gt_classes.tolist()]
    assert losses["loss_mask"] > 0
    assert 16 <= seen["n"] <= 28  # 8 an image, and those of its 6 that were not among them


def test_an_image_without_objects_teaches_no_mask():
    heads = build({**OPMASK, "mask_rois": "gt"}).train()
    nothing = targets()
    nothing[1] = Instances(
        SIZE, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long()
    )
    assert losses_of(heads, nothing)["loss_mask"] > 0


def test_a_class_specific_head_has_a_mask_a_class():
    heads = build(METHODS["maskrcnn_specific"])
    assert heads.mask_head.predictor.out_channels == 6
    found = gradients(heads.train(), losses_of(heads, targets())["loss_mask"])
    assert found["mask_head.predictor.weight"] > 0
    novel = heads.mask_head.predictor.weight.grad[[3, 4, 5]]
    assert not novel.any()  # never learned


@pytest.mark.parametrize("name", CONTROLS)
def test_no_mask_of_a_novel_class_reaches_training(name):
    def elsewhere(image: int, c: int) -> list | None:
        return None if c in SUPERVISED else [np.array([0.0, 0, 3 + image, 0, c, 50])]

    heads = build(METHODS[name]).train()
    other = copy.deepcopy(heads)
    before, after = losses_of(heads, targets()), losses_of(other, targets(elsewhere))
    assert all(torch.equal(loss, after[key]) for key, loss in before.items())
    for losses in (before, after):
        sum(losses.values()).backward()
    for (key, p), q in zip(heads.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad) if p.grad is not None else q.grad is None, key
