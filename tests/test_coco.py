"""Loading training dicts, against detectron2's own loader, and the official layout."""

import copy
import os
import warnings
from pathlib import Path

import pytest
from coco_samples import COMPRESSED, CONTENT, SQUARE, write
from pycocotools import mask as mask_util

from opmask.data import coco, coco_files
from opmask.errors import UserError


@pytest.fixture
def content() -> dict:
    return copy.deepcopy(CONTENT)


def load_with_detectron2(annotations: Path, images: Path) -> list[dict]:
    from detectron2.data.datasets import load_coco_json

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_coco_json(str(annotations), str(images), f"coco test {annotations}")


def assert_as_detectron2(annotations: Path, images: Path) -> None:
    """With all classes supervised, the dicts differ only in crowds' masks and empty images."""
    content = coco.load_json(annotations)
    ids = [category["id"] for category in content["categories"]]
    ours, _ = coco.load_training_dicts(annotations, images, ids)
    theirs = load_with_detectron2(annotations, images)
    for record in theirs:
        for instance in record["annotations"]:
            if instance["iscrowd"]:
                instance.pop("segmentation", None)
    theirs = [r for r in theirs if any(not a["iscrowd"] for a in r["annotations"])]
    assert list(ours) == theirs


def test_training_dicts_are_those_of_detectron2(tmp_path, content):
    assert_as_detectron2(*write(tmp_path, content))


def test_no_mask_of_a_novel_class_or_crowd_is_loaded(tmp_path, content):
    annotations, images = write(tmp_path, content)
    dicts, categories = coco.load_training_dicts(annotations, images, {4})
    assert [c["name"] for c in categories] == ["cat", "dog"]  # by id
    assert coco.load_categories(annotations) == categories
    masks = [
        (record["image_id"], instance["category_id"])
        for record in dicts
        for instance in record["annotations"]
        if "segmentation" in instance
    ]
    assert masks == [(7, 0), (7, 0)]  # annotations 1 and 5
    assert coco.supervised_mask_count(dicts, "mine", annotations) == 2


def test_images_and_boxes_do_not_depend_on_the_split(tmp_path, content):
    annotations, images = write(tmp_path, content)
    loaded = [
        list(coco.load_training_dicts(annotations, images, ids)[0]) for ids in ([], [4], [4, 18])
    ]
    for dicts in loaded:
        for instance in (i for record in dicts for i in record["annotations"]):
            instance.pop("segmentation", None)
    assert loaded[0] == loaded[1] == loaded[2]
    assert [record["image_id"] for record in loaded[0]] == [3, 7]


def test_masks_are_kept_as_float_polygons_or_compressed_rle(tmp_path, content):
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2], *SQUARE]
    content["annotations"][1]["segmentation"] = [[1, 1, 2, 2]]
    dicts, _ = coco.load_training_dicts(*write(tmp_path, content), [4, 18])
    by_image = {record["image_id"]: record["annotations"] for record in dicts}
    polygons, compressed, uncompressed = (a["segmentation"] for a in by_image[7])
    assert polygons == SQUARE and all(isinstance(v, float) for v in polygons[0])
    assert compressed == COMPRESSED
    assert mask_util.area(uncompressed) == 20
    assert "segmentation" not in by_image[3][0]  # nothing is left of it but the box


def test_degenerate_boxes_are_not_loaded(tmp_path, content):
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    content["annotations"][1]["bbox"] = content["annotations"][2]["bbox"] = [50, 2, 5, 4]
    dicts, _ = coco.load_training_dicts(*write(tmp_path, content), [4, 18])
    assert [record["image_id"] for record in dicts] == [7]
    assert len(dicts[0]["annotations"]) == 2


def test_supervised_categories_must_exist(tmp_path, content):
    with pytest.raises(UserError, match="category 5 does not exist"):
        coco.load_training_dicts(*write(tmp_path, content), [5])


def many(tmp_path, content, count):
    """`count` images of ids 0, 3, 6, … with a box each."""
    first = content["annotations"][0]
    ids = range(0, 3 * count, 3)
    content["images"] = [content["images"][0] | {"id": i, "file_name": f"{i}.png"} for i in ids]
    content["annotations"] = [first | {"id": 1 + i, "image_id": i} for i in ids]
    return coco.load_training_dicts(*write(tmp_path, content), [4])[0]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_held_out_images_are_the_same_for_every_run(count, tmp_path, content):
    dicts = many(tmp_path, content, 8)
    kept, held = coco.hold_out(dicts, count)
    assert len(held) == count and all(type(number) is int for number in held)
    assert sorted([record["image_id"] for record in kept] + held) == list(range(0, 24, 3))
    again, same = coco.hold_out(dicts, count)
    assert (list(again), same) == (list(kept), held)


def test_something_must_be_left_to_train_on(tmp_path, content):
    with pytest.raises(UserError, match="2 asked for, but there are 2"):
        coco.hold_out(many(tmp_path, content, 2), 2)


def test_a_split_without_masks_is_refused(tmp_path, content):
    annotations, images = write(tmp_path, content)
    dicts, _ = coco.load_training_dicts(annotations, images, [])
    with pytest.raises(UserError, match=f"split 'voc' has no annotation .* in {annotations}"):
        coco.supervised_mask_count(dicts, "voc", annotations)


def test_layout_names_what_is_missing_and_where_it_comes_from(tmp_path):
    assert coco_files.missing(tmp_path / "x") == [f"{tmp_path / 'x'}: no such folder"]
    lines = coco_files.missing(tmp_path)
    assert len(lines) == 4
    assert "instances_train2017.json" in lines[0] and "(253 MB)" in lines[0]
    assert "0 of 118,287 images" in lines[2] and "zips/train2017.zip (19.3 GB)" in lines[2]
    assert "0 of 5,000 images" in lines[3] and "zips/val2017.zip (816 MB)" in lines[3]


def test_layout_counts_images(tmp_path):
    zipped, file = coco_files.File("a.zip", 10**9), coco_files.File("a.json", 0)
    archives = (coco_files.Archive(zipped, (file,), "val", 2),)
    (tmp_path / "val").mkdir()
    for name in ("a.json", "val/1.jpg", "val/2.txt"):
        (tmp_path / name).touch()
    (line,) = coco_files.missing(tmp_path, archives)
    assert f"{tmp_path / 'val'}: 1 of 2 images" in line
    (tmp_path / "val/2.jpg").touch()
    assert coco_files.missing(tmp_path, archives) == []


@pytest.mark.slow
@pytest.mark.skipif("OPMASK_COCO_ROOT" not in os.environ, reason="OPMASK_COCO_ROOT is not set")
def test_a_real_coco_folder_loads_as_in_detectron2():
    root = Path(os.environ["OPMASK_COCO_ROOT"])
    for name in ("train", "val"):
        annotations = root / f"annotations/instances_{name}.json"
        summary = coco.check(annotations, root / name)
        assert summary.annotations >= summary.with_masks > 0
        assert_as_detectron2(annotations, root / name)
