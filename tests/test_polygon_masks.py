"""Mask targets out of polygons are detectron2's to the pixel, however RoIs are selected."""

import numpy as np
import pytest
import torch
from detectron2.structures import Instances, PolygonMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from tiny import tiny_cfg, write_images

from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from opmask.data.polygon_masks import SharedPolygonMasks

COORDINATES = st.floats(-4, 12, width=32)
POLYGON = st_np.arrays(np.float64, st.integers(3, 12).map(lambda n: 2 * n), elements=COORDINATES)
INSTANCES = st.lists(st.lists(POLYGON, min_size=0, max_size=3), min_size=1, max_size=5)


@settings(
    deadline=None, max_examples=40
)  # a box without width draws a polygon hundreds of times its size
@given(INSTANCES, st.data(), st.sampled_from([14, 28]))
def test_targets_are_those_of_detectron2(polygons, data, size):
    shape = (len(polygons), 4)
    boxes = torch.from_numpy(data.draw(st_np.arrays(np.float32, shape, elements=COORDINATES)))
    expected = PolygonMasks(polygons).crop_and_resize(boxes, size)
    found = SharedPolygonMasks(polygons).crop_and_resize(boxes, size)
    assert found.dtype == torch.bool
    torch.testing.assert_close(found, expected)


def test_a_triangle_by_hand():
    """The lower left half of a box of 4 pixels, seen at 4 by 4 and, twice as wide, in its left."""
    masks = SharedPolygonMasks([[np.array([10.0, 20, 10, 24, 14, 24])]] * 2)
    boxes = torch.tensor([[10.0, 20, 14, 24], [10, 20, 18, 24]])
    whole, half = masks.crop_and_resize(boxes, 4).int().sum(2).tolist()
    assert whole == sorted(whole)
    assert whole[0] <= 1
    assert whole[-1] >= 3
    assert max(half) <= 2


@pytest.mark.parametrize(
    "item",
    [
        2,
        -1,
        slice(1, 3),
        [3, 0, 0],
        torch.tensor([True, False, True, False]),
        torch.tensor([2, 2, 1]),
        torch.tensor([], dtype=torch.int64),
    ],
)
def test_selections_are_those_of_detectron2(item):
    polygons = [[np.arange(6.0) + number] * (number + 1) for number in range(4)]
    expected, found = PolygonMasks(polygons)[item], SharedPolygonMasks(polygons)[item]
    assert isinstance(found, SharedPolygonMasks)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_images_have_them(tmp_path):
    data = write_images(tmp_path)
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    (image, *_) = next(iter(build_loader(dicts, tiny_cfg())))
    assert isinstance(image["instances"].gt_masks, SharedPolygonMasks)


def test_instances_stay_fast_when_they_are_selected_and_joined():
    masks = SharedPolygonMasks([[np.arange(6.0)], [np.arange(8.0)]])
    image = Instances((9, 9), gt_masks=masks)[torch.tensor([1, 0, 1])]
    joined = Instances.cat([image, image]).gt_masks
    assert isinstance(joined, SharedPolygonMasks)
    assert [len(polygon) for (polygon,) in joined] == [8, 6, 8] * 2


def test_no_instance_has_no_target():
    assert SharedPolygonMasks([]).crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_a_box_too_many_is_refused():
    with pytest.raises(ValueError, match="2 boxes for 1 masks"):
        SharedPolygonMasks([[np.arange(6.0)]]).crop_and_resize(torch.zeros(2, 4), 28)
