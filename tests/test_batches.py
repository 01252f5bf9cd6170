"""In which order a training sees its images."""

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import IDS, tiny_cfg, write_images

from opmask.data.coco import load_training_dicts
from opmask.data.loader import TrainingBatches, build_loader, masked_repeats
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


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(UserError, match="DATALOADER.MASKED_SHARE"):
        masked_repeats(np.array([1, 0]), share)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1 / 6), (0.75, 3 / 4)])
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
    assert {one["image_id"] for one in drawn} == set(range(1, 7))
