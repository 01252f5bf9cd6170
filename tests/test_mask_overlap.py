"""Mask and Boundary IoU, and floors, against pycocotools, loops over pixels and numbers by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as mask_util

from opmask.evaluation import floors
from opmask.evaluation.mask_overlap import boundary, boundary_iou, decode, iou, objects_with_masks
from pipeline.evaluate import measure_floors
from study.spec.paths import ORACLE

SIZE = (70, 80)  # 2 % of its diagonal are two pixels


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {**encoded, "counts": encoded["counts"].decode()}


def blobs(count, seed=0):
    """Rectangles with holes, some at the image's border, one empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *SIZE), bool)
    for mask in masks[1:]:
        y, x = rng.integers(0, 40, 2)
        h, w = rng.integers(1, 40, 2)
        mask[y : y + h, x : x + w] = True
        mask[rng.random(SIZE) < 0.01] = False
    return masks


def test_iou_equals_pycocotools():
    a, b = blobs(20), blobs(20, seed=1)
    expected = [mask_util.iou([rle(x)], [rle(y)], [0]).item() for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-12)
    assert iou(a, b)[0] == 0  # both empty


def near_the_outline(mask, steps):
    """Pixels of a mask from which `steps` king's moves lead out of it, or out of the image."""
    outside = np.pad(~mask, steps, constant_values=True)
    found = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        found[y, x] = outside[y : y + 2 * steps + 1, x : x + 2 * steps + 1].any()
    return found


def test_boundary_against_a_loop_over_pixels():
    masks = blobs(6)
    expected = np.array([near_the_outline(mask, 2) for mask in masks])
    np.testing.assert_array_equal(boundary(masks), expected)
    assert masks.sum() > expected.sum() > 0


def test_boundary_iou_by_hand():
    """A 20 × 20 square and the same with a hole of 10 × 10: two pixels along each outline."""
    square = np.zeros((1, *SIZE), bool)
    square[0, 10:30, 10:30] = True
    ring = square.copy()
    ring[0, 15:25, 15:25] = False
    outer, inner = 20**2 - 16**2, 14**2 - 10**2
    assert boundary_iou(square, ring)[0] == pytest.approx(outer / (outer + inner))
    assert boundary_iou(square, square)[0] == 1 and iou(square, ring)[0] == 0.75


def test_every_kind_of_shape_is_decoded():
    mask = blobs(3)[2]
    polygon = [[3.0, 3, 33, 3, 33, 23, 3, 23], [40.0, 40, 50, 40, 50, 50]]
    plain = {"size": list(SIZE), "counts": [5, 10, SIZE[0] * SIZE[1] - 15]}
    found = decode([rle(mask), polygon, plain], SIZE)
    drawn = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygon, *SIZE)))
    np.testing.assert_array_equal(found[0], mask)
    np.testing.assert_array_equal(found[1], drawn)
    assert found[2].sum() == 10 and found[2][5:15, 0].all()
    assert decode([], SIZE).shape == (0, *SIZE)


def pixels(box):
    """Centres of the pixels in a box, as shares of its sides."""
    x, y, w, h = box
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            u, v = (column + 0.5 - x) / w, (row + 0.5 - y) / h
            if 0 <= u < 1 and 0 <= v < 1:
                yield row, column, u, v


def test_floors_against_a_loop_over_pixels():
    boxes = [(3, 4, 20, 10), (10.4, 7.7, 9.3, 30.1), (60, 50, 30, 30), (5.1, 5.1, 0.2, 0.2)]
    mean = np.random.default_rng(0).random((floors.CELLS, floors.CELLS))
    found = floors.floor_masks(boxes, SIZE, mean)
    expected = {name: np.zeros((len(boxes), *SIZE), bool) for name in floors.FLOORS}
    for n, box in enumerate(boxes):
        for row, column, u, v in pixels(box):
            expected["box"][n, row, column] = True
            expected["ellipse"][n, row, column] = (u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25
            cell = int(v * floors.CELLS), int(u * floors.CELLS)
            expected["mean mask"][n, row, column] = mean[cell] >= 0.5
    for name in floors.FLOORS:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert found["box"].sum((1, 2)).tolist()[:2] == [200, 10 * 30] and not found["box"][3].any()
    assert found["ellipse"][0].sum() / 200 == pytest.approx(np.pi / 4, abs=0.03)


def record(masks, boxes):
    shapes = [
        {"bbox": box, "segmentation": rle(mask)} for box, mask in zip(boxes, masks, strict=True)
    ]
    return {"height": SIZE[0], "width": SIZE[1], "annotations": shapes}


def test_the_mean_mask_is_the_share_of_masks_at_a_place_of_the_box():
    left, whole = np.zeros((2, *SIZE), bool)
    left[10:30, 10:20] = True
    whole[40:50, 40:80] = True
    boxes = [(10, 10, 20, 20), (40, 40, 40, 10)]
    mean = floors.mean_mask([record([left], boxes[:1]), record([whole], boxes[1:])])
    half = floors.CELLS // 2
    assert (mean[:, :half] == 1).all() and (mean[:, half:] == 0.5).all()
    drawn = floors.floor_masks(boxes, SIZE, mean)
    np.testing.assert_array_equal(drawn["mean mask"], drawn["box"])  # a half counts
    without = {"height": 9, "width": 9, "annotations": [{"bbox": (0, 0, 4, 4)}]}
    assert not floors.mean_mask([without]).any()


def annotation(number, category, box, mask, **more):
    shape = {"segmentation": rle(mask), "area": int(mask.sum())}
    ids = {"id": number, "image_id": 1, "category_id": category}
    return {**ids, "bbox": list(box), "iscrowd": 0, **shape, **more}


def test_the_floors_of_a_split_see_no_mask_of_a_novel_class(tmp_path):
    """Class 1 fills the left half of its box, class 2 the right one; masks of 1 are taught."""
    left, right = np.zeros((2, *SIZE), bool)
    left[10:30, 10:20], right[10:30, 20:30] = True, True
    box = (10, 10, 20, 20)
    objects = [annotation(1, 1, box, left), annotation(2, 2, box, right)]
    objects.append(annotation(3, 1, box, left, iscrowd=1))
    data = {
        "images": [{"id": 1, "file_name": "1.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(data))
    part = {"annotations": "all.json", "images": ".", "counts": {}}
    manifest = {"kind": "coco", "root": ".", "train": part, "val": part}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest | {"categories": data["categories"]}))
    measure_floors({"supervised": "mine", "splits": {"mine": ["one"]}}, path, tmp_path)
    table = pd.read_csv(tmp_path / ORACLE)
    found = table.set_index(["floor", "annotation_id"])["iou"]
    assert found["mean mask"].tolist() == [1, 0] and found["box"].tolist() == [0.5, 0.5]
    assert sorted(found.index.unique("annotation_id")) == [1, 2]  # no crowd
    assert [one["id"] for one in objects_with_masks(data)[1]] == [1, 2]
    first = (tmp_path / ORACLE).read_bytes()
    measure_floors({"supervised": "mine", "splits": {"mine": ["one"]}}, path, tmp_path)
    assert (tmp_path / ORACLE).read_bytes() == first
