"""Masks in RLE: usable with `INPUT.MASK_FORMAT: bitmask`, and refused in time with polygons."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_util
from tiny import SUPERVISED, tiny_cfg, write_images

from opmask.data.coco import load_training_dicts
from opmask.data.loader import TrainingImages
from opmask.errors import UserError


@pytest.fixture
def data(tmp_path):
    """Six images, the masks of the first class in RLE."""
    made = write_images(tmp_path)
    content = json.loads(made.annotations.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["category_id"] == SUPERVISED[0]:
            rles = mask_util.frPyObjects(annotation["segmentation"], *sizes[annotation["image_id"]])
            rle = mask_util.merge(rles)
            annotation["segmentation"] = rle | {"counts": rle["counts"].decode()}
    made.annotations.write_text(json.dumps(content))
    return made


def dicts(data, supervised=SUPERVISED):
    return load_training_dicts(data.annotations, data.images, supervised)[0]


def test_with_polygons_the_key_to_change_is_named_before_training(data):
    with pytest.raises(UserError, match=r"1\.png: has a mask in RLE.*INPUT\.MASK_FORMAT: bitmask"):
        TrainingImages(dicts(data), tiny_cfg())


def test_those_of_novel_classes_and_of_box_only_methods_do_not_matter(data):
    TrainingImages(dicts(data, SUPERVISED[1:]), tiny_cfg())
    TrainingImages(dicts(data), tiny_cfg(MODEL__MASK_ON=False))


def test_as_bitmasks_they_are_what_was_annotated(data):
    cfg = tiny_cfg(
        INPUT__MASK_FORMAT="bitmask", INPUT__MIN_SIZE_TRAIN=[64], INPUT__RANDOM_FLIP="none"
    )
    records = dicts(data)
    images = TrainingImages(records, cfg)
    for index, record in enumerate(records):
        instances = images[index, 0]["instances"]
        masks = instances.gt_masks.tensor.numpy()
        for instance, mask in zip(record["annotations"], masks, strict=True):
            if isinstance(instance.get("segmentation"), dict):
                assert np.array_equal(mask, mask_util.decode(instance["segmentation"]))
        assert sum(isinstance(a.get("segmentation"), dict) for a in record["annotations"]) == 1


def test_what_is_done_to_a_record_stays_with_who_did_it(data):
    """Records are kept as bytes, of which each loader process makes what it needs."""
    records = dicts(data)
    images = TrainingImages(records, tiny_cfg(INPUT__MASK_FORMAT="bitmask"))
    assert images.dicts[0] == records[0]
    images.dicts[0]["annotations"].clear()
    assert images.dicts[0] == records[0]
    assert records[0]["annotations"]
