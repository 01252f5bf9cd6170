"""In which order a training sees its images."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import IDS, tiny_cfg, write_images

from opmask.data.augmentation import build_augmentations
from opmask.data.coco import load_training_dicts
from opmask.data.loader import TrainingBatches, TrainingImages, build_loader, masked_repeats
from opmask.errors import UserError


def test_batches_do_not_depend_on_where_one_starts():
    landscape = [True, False, True, True, False, True, False]
    whole = iter(TrainingBatches(landscape, 2, seed=3))
    expected = [next(whole) for _ in range(20)]
    later = iter(TrainingBatches(landscape, 2, seed=3, start=8))
    assert [next(later) for _ in range(12)] == expected[8:]
    for batch in expected:
        assert len({landscape[index] for index, _ in batch}) == 1
    assert {index for batch in expected for index, _ in batch} == set(range(7))
    other = iter(TrainingBatches(landscape, 2, seed=4))
    assert [next(other) for _ in range(20)] != expected


def test_processes_share_every_batch(monkeypatch):
    whole = iter(TrainingBatches([True] * 5, 4, seed=0))
    expected = [next(whole) for _ in range(5)]
    monkeypatch.setattr("opmask.data.loader.comm.get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("opmask.data.loader.comm.get_rank", lambda rank=rank: rank)
        batches = iter(TrainingBatches([True] * 5, 4, seed=0))
        shares.append([next(batches) for _ in range(5)])
    for first, second, whole_batch in zip(*shares, expected, strict=True):
        assert len(first) == len(second) == 2
        assert sorted(first + second) == sorted(whole_batch)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.floats(0, 0.9), st.integers(0, 9))
def test_images_with_masks_have_their_share_of_an_epoch(masks, share, seed):
    having = np.array(masks) > 0
    repeats = masked_repeats(np.array(masks), share)
    if repeats is None:
        assert not having.any() or share <= having.mean()
        return
    assert (repeats >= 1).all() and (repeats[~having] == 1).all()
    assert repeats[having].sum() / repeats.sum() == pytest.approx(share)
    batches = iter(TrainingBatches([True] * len(masks), 1, seed, repeats=repeats))
    drawn = [index for [(index, _)] in islice(batches, 60 * round(repeats.sum()))]
    assert having[drawn].mean() == pytest.approx(share, abs=0.05)
    assert set(drawn) == set(range(len(masks)))


def test_order_without_repeats_is_as_it_was():
    """Of NumPy's permutation of the number of images: what all reports so far were trained by."""
    rng, batches = np.random.default_rng(5), iter(TrainingBatches([True] * 40, 4, seed=5))
    for _ in range(3):
        expected = rng.permutation(40)
        found = [index for _ in range(10) for index, _ in next(batches)]
        assert found == expected.tolist()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(UserError, match="DATALOADER.MASKED_SHARE"):
        masked_repeats(np.array([1, 0]), share)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1 / 6), (0.75, 3 / 4), (1.0, 1)])
def test_the_loader_takes_the_share_of_supervised_masks(tmp_path, share, expected):
    """Of one image of six; masks of other classes, which the second image has, do not count."""
    data = write_images(tmp_path)
    content = json.loads(data.annotations.read_text())
    for one in content["annotations"]:
        if one["image_id"] > 1 and (one["image_id"], one["category_id"]) != (2, IDS[-1]):
            del one["segmentation"]
    data.annotations.write_text(json.dumps(content))
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    cfg = tiny_cfg(DATALOADER__MASKED_SHARE=share)
    drawn = [one for batch in islice(build_loader(dicts, cfg), 120) for one in batch]
    having = [bool(one["instances"].gt_has_mask.any()) for one in drawn]
    assert np.mean(having) == pytest.approx(expected, abs=0.02)
    assert {one["image_id"] for one in drawn} == ({1} if share == 1 else set(range(1, 7)))


def test_scale_jitter_moves_boxes_with_the_pixels(tmp_path):
    """A white square on black is found again where its box says, at every scale."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:50, 30:70] = 255
    Image.fromarray(pixels).save(tmp_path / "1.png")
    corners = [30, 20, 70, 20, 70, 50, 30, 50]
    square = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 1200}
    square |= {"bbox": [30, 20, 40, 30], "segmentation": [corners]}
    image = {"id": 1, "file_name": "1.png", "width": 80, "height": 60}
    content = {"images": [image], "annotations": [square], "categories": [{"id": 3, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    dicts, _ = load_training_dicts(tmp_path / "a.json", tmp_path, (3,))
    jitter = {"INPUT__SCALE_JITTER": [0.5, 2.0], "INPUT__MAX_SIZE_TRAIN": 96}
    images = TrainingImages(dicts, tiny_cfg(MODEL__MASK_ON=False, **jitter))
    widths = set()
    for seed in range(30):
        found = images[0, seed]
        white = found["image"].float().mean(0) > 127
        height, width = white.shape
        assert max(height, width) <= 96
        widths.add(width)
        (instance,) = range(len(found["instances"]))
        x, y, to_x, to_y = found["instances"].gt_boxes.tensor[instance].round().int().tolist()
        inside = torch.zeros_like(white)
        inside[y:to_y, x:to_x] = True
        assert (inside != white).float().mean() < 0.04
    assert len(widths) > 5


def test_colour_jitter_changes_colours_by_no_more_than_asked(tmp_path):
    data = write_images(tmp_path)
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    plain, coloured = (
        TrainingImages(dicts, tiny_cfg(INPUT__COLOUR_JITTER=c, INPUT__RANDOM_FLIP="none"))
        for c in (0.0, 0.3)
    )
    for seed in range(10):
        before, after = (images[0, seed]["image"].float().mean() for images in (plain, coloured))
        assert before != after
        assert before * 0.7 - 2 <= after <= before * 1.3 + 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("SCALE_JITTER", [2.0, 1.0]), ("SCALE_JITTER", [0.5]), ("COLOUR_JITTER", 1.0)],
)
def test_impossible_augmentations_are_refused_by_name(key, value):
    cfg = tiny_cfg(MODEL__MASK_ON=False, **{f"INPUT__{key}": value})
    with pytest.raises(UserError, match=f"INPUT.{key}"):
        build_augmentations(cfg)


def test_scale_jitter_is_refused_where_there_are_masks():
    with pytest.raises(UserError, match="INPUT.SCALE_JITTER crops"):
        build_augmentations(tiny_cfg(INPUT__SCALE_JITTER=[0.5, 2.0]))
