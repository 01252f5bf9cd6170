"""The miniature data set: right masks, right counts, right ids, the same bytes every time."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from opmask.errors import UserError
from opmask.miniature import build
from opmask.miniature.build import _mapped
from opmask.miniature.catalogue import classes, scenes
from opmask.miniature.compose import Layer, compose, layer, paint, visible_masks
from opmask.miniature.placement import Placement
from opmask.miniature.planning import ImagePlan, plan
from opmask.miniature.sprites import OPAQUE, own_svgs, render, sprites

SMALL = {
    "image_size": 96,
    "train_images": 40,
    "val_images": 20,
    "min_train_instances": 2,
    "min_val_instances": 1,
    "progress": False,
}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("miniature") / "data"
    build(out, seed=0, **SMALL)
    return out


def load(folder: Path, split: str) -> COCO:
    return COCO(folder / "annotations" / f"instances_{split}.json")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_category_ids_and_names_are_cocos() -> None:
    meta = pytest.importorskip("torchvision.models.detection").FasterRCNN_ResNet50_FPN_Weights
    names = meta.COCO_V1.meta["categories"]
    expected = {i: name for i, name in enumerate(names) if i and name != "N/A"}
    assert {c.category_id: c.name for c in classes().values()} == expected


def test_every_class_has_a_scene_and_scenes_name_only_classes() -> None:
    assert {name for scene in scenes() for name in scene.weights} == set(classes())


@pytest.mark.slow
def test_every_drawing_is_visible_cropped_and_premultiplied() -> None:
    for name, drawings in sprites().items():
        assert len(drawings) >= 2, name
        for rgba in drawings:
            opaque = rgba[..., 3] >= OPAQUE
            assert opaque.mean() > 0.1 and max(opaque.shape) > 80, name
            assert all(opaque[edge].any() for edge in (0, -1)), name
            assert all(opaque[:, edge].any() for edge in (0, -1)), name
            assert (rgba[..., :3] <= rgba[..., 3:]).all(), name


def test_drawings_of_different_classes_differ() -> None:
    seen = [rgba.tobytes() for drawings in sprites().values() for rgba in drawings]
    owners = {}
    for name, drawings in sprites().items():
        for rgba in drawings:
            assert owners.setdefault(rgba.tobytes(), name) == name
    assert len(set(seen)) > 0.95 * len(seen)
    assert len(set(own_svgs("oven"))) > 4 and own_svgs("person") == []


def test_an_empty_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        render('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"></svg>')


@given(st.lists(st.tuples(*[st.integers(-5, 12)] * 2, *[st.integers(1, 9)] * 2), max_size=5))
def test_visible_masks_equal_a_loop_over_pixels(boxes: list[tuple[int, int, int, int]]) -> None:
    size, rng = 12, np.random.default_rng(len(boxes))
    layers = [
        Layer("x", rng.integers(0, 256, (height, width, 4), np.uint8), top, left)
        for top, left, height, width in boxes
    ]
    masks = visible_masks(layers, size)
    for y in range(size):
        for x in range(size):
            on_top = None
            for index, item in enumerate(layers):
                v, u = y - item.top, x - item.left
                height, width = item.rgba.shape[:2]
                if 0 <= v < height and 0 <= u < width and item.rgba[v, u, 3] >= 128:
                    on_top = index
            assert [bool(m[y, x]) for m in masks] == [i == on_top for i in range(len(layers))]


def test_paint_blends_by_hand_worked_numbers() -> None:
    image = np.full((3, 3, 3), 100, np.float32)
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (200, 0, 50, 255)  # opaque; falls on pixel (2, 1)
    rgba[0, 1] = (51, 0, 102, 102)  # alpha 0.4; falls on (2, 2)
    paint(image, Layer("x", rgba, top=2, left=1), gain=np.array([1.5, 1.0, 0.5]))
    np.testing.assert_allclose(image[2, 1], [255, 0, 25])  # 1.5 x 200 saturates
    np.testing.assert_allclose(image[2, 2], [136.5, 60, 111], atol=1e-4)
    assert (image[:2] == 100).all() and (image[2, 0] == 100).all()


@pytest.mark.parametrize("name", ["car", "baseball bat", "giraffe"])
def test_turning_and_mirroring_keep_the_object(name: str) -> None:
    def opaque(angle: float, flip: bool) -> np.ndarray:
        return layer(Placement(name, 0.0, 50, 50, 60, angle, flip, 0)).rgba[..., 3] >= OPAQUE

    upright = opaque(0, False)
    assert abs(max(upright.shape) - 60) <= 1
    np.testing.assert_array_equal(opaque(0, True), upright[:, ::-1])
    np.testing.assert_array_equal(opaque(90, False), np.rot90(upright))
    assert opaque(33, False).sum() == pytest.approx(upright.sum(), rel=0.1)


@settings(max_examples=30, deadline=None)
@given(images=st.integers(1, 60), floor=st.integers(0, 4), seed=st.integers(0, 99))
def test_plans_hold_the_floor_or_say_how_many_images_it_takes(
    images: int, floor: int, seed: int
) -> None:
    try:
        plans = plan(np.random.default_rng(seed), images, floor)
    except ValueError as error:
        least = int(str(error).split("at least ")[1].split()[0])
        assert images < least <= 80 * floor / 7 + len(scenes())
        return
    counts = Counter(name for item in plans for name in item.objects)
    assert len(plans) == images
    assert min(counts[name] for name in classes()) >= floor
    assert all(3 <= len(item.objects) <= 7 for item in plans)
    assert all(set(item.objects) <= set(item.scene.weights) for item in plans)


@pytest.mark.parametrize("floor", [1, 2, 5])
def test_the_least_number_of_images_suffices(floor: int) -> None:
    with pytest.raises(ValueError, match="at least") as refusal:
        plan(np.random.default_rng(0), 1, floor)
    least = int(str(refusal.value).split("at least ")[1].split()[0])
    plans = plan(np.random.default_rng(0), least, floor)
    counts = Counter(name for item in plans for name in item.objects)
    assert len(plans) == least and min(counts[name] for name in classes()) >= floor
    with pytest.raises(ValueError, match=f"at least {least} images"):
        plan(np.random.default_rng(0), least - 1, floor)


def test_no_object_gets_lost_in_a_crowd() -> None:
    street = scenes()[0]
    crowd = ImagePlan(street, ("bus", "truck", "car", "person", "person", "dog", "handbag"))
    for seed in range(30):
        scene = compose(np.random.default_rng(seed), crowd, 64)
        assert Counter(name for name, _ in scene.objects) == Counter(crowd.objects)
        assert min(mask.sum() for _, mask in scene.objects) >= 24
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8


@pytest.mark.parametrize(("split", "images", "floor"), [("train", 40, 2), ("val", 20, 1)])
def test_counts_files_and_floors(miniature: Path, split: str, images: int, floor: int) -> None:
    coco = load(miniature, split)
    names = {image["file_name"] for image in coco.dataset["images"]}
    assert names == {path.name for path in (miniature / split).iterdir()}
    assert len(names) == images
    counts = Counter(a["category_id"] for a in coco.dataset["annotations"])
    assert min(counts[c] for c in coco.getCatIds()) >= floor and len(coco.getCatIds()) == 80


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_are_disjoint_and_boxes_and_areas_fit_them(miniature: Path, split: str) -> None:
    coco = load(miniature, split)
    for image in coco.dataset["images"]:
        entries = coco.imgToAnns[image["id"]]
        assert 3 <= len(entries) <= 7
        masks = np.stack([coco_mask.decode(entry["segmentation"]) for entry in entries])
        assert masks.shape[1:] == (image["height"], image["width"]) == (96, 96)
        assert masks.sum(axis=0).max() == 1
        for entry, mask in zip(entries, masks, strict=True):
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            box = [x, y, columns.max() - x + 1, rows.max() - y + 1]
            assert entry["bbox"] == box
            assert entry["area"] == len(rows) >= 24
            assert entry["iscrowd"] == 0


def test_boxes_overlap_often(miniature: Path) -> None:
    coco = load(miniature, "train")
    overlaps = []
    for entries in coco.imgToAnns.values():
        boxes = [entry["bbox"] for entry in entries]
        iou = coco_mask.iou(boxes, boxes, [0] * len(boxes))
        np.fill_diagonal(iou, 0)
        overlaps.extend(iou.max(axis=1) > 0.1)
    assert 0.4 < np.mean(overlaps) < 0.95


@pytest.mark.slow
def test_bytes_depend_on_the_seed_but_not_on_the_workers(miniature: Path, tmp_path: Path) -> None:
    build(tmp_path / "two", seed=0, workers=2, **SMALL)
    build(tmp_path / "other", seed=1, **SMALL)
    first, other = contents(miniature), contents(tmp_path / "other")
    assert contents(tmp_path / "two") == first
    assert set(first) == set(other)
    assert [name for name in first if first[name] == other[name]] == ["CREDITS.txt"]
    pictures = [data for name, data in first.items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures) == 60


def test_a_failed_build_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "data"
    old.mkdir()
    (old / "kept").write_text("as it was")

    def fail(*_: object) -> None:
        raise RuntimeError("no more paint")

    monkeypatch.setattr(sys.modules[build.__module__], "compose", fail)
    with pytest.raises(RuntimeError, match="no more paint"):
        build(old, seed=0, **SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "kept"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_val_instances": 9}, "min_val_instances = 9: 20 images .* at least 1"),
        ({"image_size": 32}, "image_size = 32, must be at least 64"),
        ({"train_images": 0}, "train_images = 0, must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused_by_name(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(tmp_path / "data", seed=0, **(SMALL | change))
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_replaced_and_json_is_plain(miniature: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / "stale").touch()
    tiny = SMALL | {"train_images": 2, "val_images": 1}
    build(out, seed=3, **(tiny | {"min_train_instances": 0, "min_val_instances": 0}))
    assert sorted(p.name for p in out.iterdir()) == ["CREDITS.txt", "annotations", "train", "val"]
    document = json.loads((out / "annotations" / "instances_val.json").read_text())
    assert set(document) == {"info", "images", "annotations", "categories"}
    assert [a["id"] for a in document["annotations"]] == [
        *range(1, len(document["annotations"]) + 1)
    ]


def test_the_package_does_not_import_torch() -> None:
    code = "import sys, opmask.miniature; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def be_killed(_item: tuple) -> list[dict]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


@pytest.mark.slow
def test_a_killed_worker_ends_the_drawing_with_an_error() -> None:
    with pytest.raises(UserError, match="miniature val: a process was killed"):
        _mapped(be_killed, list(range(4)), 2, False, "val")
