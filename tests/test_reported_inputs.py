"""Annotation files as people's tools write them: used as meant, or refused in one line.

Each input is a change to the same small set. Usable ones must pass every stage before training,
map to training images, and give the AP that pycocotools gives for the set without the change.
"""

import copy
import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coco_reference import metrics_of, pycocotools_eval
from data_use import evaluate_all, map_all
from own_set import own_params, write_set
from parameters import write_params
from pycocotools import mask as mask_util

from opmask.data.coco import load_json, load_manifest
from opmask.evaluation.coco_ap import METRICS, evaluate
from study.spec.params import load_params

pytestmark = pytest.mark.slow

SETS = ("train", "val")
HEIGHT, WIDTH = 80, 96  # of images 1 and 3
Quirk = Callable[[dict], None]


@pytest.fixture(scope="module")
def plain_set(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("plain") / "set"
    write_set(root, 3, 2)
    return root


@pytest.fixture
def root(plain_set, tmp_path, monkeypatch) -> Path:
    """A copy of the set in a project of its own, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.spec.overrides.check_models", lambda _: None)  # a second each time
    own_params(tmp_path / "set")
    return Path(shutil.copytree(plain_set, tmp_path / "set"))


def path_of(root: Path, name: str) -> Path:
    return root / "annotations" / f"instances_{name}.json"


def edit(root: Path, quirk: Quirk, names=SETS, encoding="utf-8") -> None:
    for name in names:
        content = json.loads(path_of(root, name).read_bytes())
        quirk(content)
        path_of(root, name).write_bytes(json.dumps(content).encode(encoding))


def prepare() -> None:
    for name in ("plan", "inputs", "data", "splits"):
        importlib.import_module(f"pipeline.{name}").run([])


def refusal(capsys) -> str:
    """The one line in which the stages before training refuse the set."""
    with pytest.raises(SystemExit) as ending:
        prepare()
    assert ending.value.code == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def assert_used_as(plain: dict) -> None:
    """The set in data/own trains, and is evaluated as `plain`, its val without quirks."""
    manifest = load_manifest(Path("data/own/manifest.json"))
    map_all(manifest.train.annotations, manifest.train.images)
    evaluate_all(manifest.val.annotations)
    cleaned = load_json(manifest.val.annotations)
    assert all(0 <= r["id"] <= 2**53 for k in ("images", "annotations") for r in cleaned[k])
    image_ids = {image["file_name"]: image["id"] for image in cleaned["images"]}
    class_ids = {category["name"]: category["id"] for category in cleaned["categories"]}
    images = {i["id"]: image_ids[i["file_name"]] for i in plain["images"]}
    classes = {c["id"]: class_ids[c["name"]] for c in plain["categories"]}
    names = {c["id"]: c["name"] for c in plain["categories"]}
    for task in ("bbox", "segm"):
        found = shifted(plain, task)
        mapped = [
            d | {"image_id": images[d["image_id"]], "category_id": classes[d["category_id"]]}
            for d in found
        ]
        table = evaluate(manifest.val.annotations, mapped, task=task).per_class()
        reference = pycocotools_eval(plain, found, task)
        for k, number in enumerate(reference.params.catIds):
            expected = metrics_of(reference.eval["precision"][..., -1][:, :, [k]])
            row = table[table["category"] == names[number]]
            np.testing.assert_allclose(row[list(METRICS)].to_numpy(float)[0], expected, atol=1e-9)


def shifted(plain: dict, task: str) -> list[dict]:
    """A detection an object, two pixels beside it."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in plain["images"]}
    found = []
    for number, annotation in enumerate(plain["annotations"]):
        detection = {key: annotation[key] for key in ("image_id", "category_id")}
        detection["score"] = 1 / (2 + number)
        if task == "bbox":
            x, y, w, h = annotation["bbox"]
            found.append(detection | {"bbox": [x + 2, y, w, h]})
            continue
        points = np.array(annotation["segmentation"]).reshape(-1, 2) + (2, 0)
        (rle,) = mask_util.frPyObjects([points.ravel().tolist()], *sizes[annotation["image_id"]])
        found.append(detection | {"segmentation": rle | {"counts": rle["counts"].decode()}})
    return found


def roboflow_header(content: dict) -> None:
    content["info"] = {"year": "2024", "version": "1", "date_created": ""}
    content["licenses"] = [{"id": 1, "url": "", "name": "Public Domain"}]
    content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    for image in content["images"]:
        image |= {"license": 1, "date_captured": "2024-01-01T00:00:00+00:00"}


def each(key: str, **values) -> Quirk:
    """Sets `values`, computed from the record if they can be called, in every record of a list."""

    def quirk(content: dict) -> None:
        for record in content[key]:
            record |= {k: v(record) if callable(v) else v for k, v in values.items()}

    return quirk


def top(**values) -> Quirk:
    return lambda content: content.update(copy.deepcopy(values))


def renamed(*names: str) -> Quirk:
    def quirk(content: dict) -> None:
        for category, name in zip(content["categories"], names, strict=False):
            category["name"] = name

    return quirk


def ids(image=lambda i: i, category=lambda i: i, annotation=lambda i: i) -> Quirk:
    def quirk(content: dict) -> None:
        for key, change in (("images", image), ("categories", category)):
            for record in content[key]:
                record["id"] = change(record["id"])
        for record in content["annotations"]:
            record["id"] = annotation(record["id"])
            record["image_id"] = image(record["image_id"])
            record["category_id"] = category(record["category_id"])

    return quirk


def with_polygon(*polygon: float) -> Quirk:
    """A further polygon of the first object."""
    return lambda content: content["annotations"][0]["segmentation"].append(list(polygon))


def with_object(**values) -> Quirk:
    """A further object, in image 1."""

    def quirk(content: dict) -> None:
        new = {**content["annotations"][0], "image_id": 1, "id": 10**6}
        content["annotations"].append(new | values)

    return quirk


USABLE = {
    # An evaluator's strict parser would refuse these after training.
    "year is text": roboflow_header,
    "year is a float": top(info={"year": 2024.0, "contributor": None}),
    "date is a number": each("images", date_captured=20240101, license="CC0"),
    "licenses are null": top(licenses=None, info=None),
    "licence without id": top(licenses=[{"name": "x"}, 3]),
    "NaN where nothing looks": each("annotations", score=float("nan"), year=float("inf")),
    "lone surrogate where nothing looks": each("images", coco_url="\ud800", flickr_url=[1]),
    "300 digits where nothing looks": top(info={"year": 10**300}),
    "attributes": each("annotations", attributes={"occluded": False}, keypoints="none"),
    "supercategory": each("categories", supercategory=7, keypoints=[1], skeleton=None),
    # Ids.
    "annotation ids from 0": ids(annotation=lambda i: i - 1),
    "annotation ids beyond 64 bits": ids(annotation=lambda i: 2**127 + i),
    "negative annotation ids": ids(annotation=lambda i: -i),
    "image ids beyond 64 bits": ids(image=lambda i: 2**100 - i),
    "image ids beyond 53 bits": ids(image=lambda i: 2**60 + i),
    "negative image ids": ids(image=lambda i: -i),
    "negative category ids": ids(category=lambda i: i - 10),
    "category ids beyond 64 bits": ids(category=lambda i: 2**64 + i),
    # Yes and no in place of numbers, null in place of nothing.
    "iscrowd is false": each("annotations", iscrowd=False),
    "iscrowd is 0.0": each("annotations", iscrowd=0.0),
    # Left out by training, check and evaluation alike.
    "polygon of odd length": with_polygon(50, 50, 60, 60, 50, 70, 3),
    "polygon of 4 numbers": with_polygon(50, 50, 60, 60),
    "empty polygon": with_polygon(),
    "box without width": with_object(bbox=[10, 10, 0, 9]),
    "box of negative height": with_object(bbox=[10, 10, 9, -9]),
    "box outside its image": with_object(bbox=[WIDTH + 5, 10, 9, 9]),
    "box without width or mask": with_object(bbox=[10, 10, 0, 9], segmentation=[], area=None),
    # Names.
    "classes named NA, null and nan": renamed("heron", "otter", "NA", "nan"),
    "classes with markup": renamed("heron", "otter", "a|b <i>x</i>", 'x,"y"\\z'),
    "classes named as numbers": renamed("heron", "otter", "1", "0.5"),
    "classes in other scripts": renamed("heron", "otter", "ヤモリ", "芦苇 🌾"),
}


@pytest.mark.parametrize("name", USABLE)
def test_an_unusual_file_is_used_as_it_is_meant(root, name):
    plain = json.loads(path_of(root, "val").read_text())
    if name.startswith("classes"):
        USABLE[name](plain)
    edit(root, USABLE[name], ("val",) if "polygon" in name or "box" in name else SETS)
    set_option("on_degenerate", "skip")
    prepare()
    assert_used_as(plain)
    splits = json.loads(Path("runs/own/splits.json").read_text())["wet"]
    assert set(splits["supervised"]["names"]) == {"heron", "otter"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_encodings_that_python_reads_are_used(root, encoding):
    plain = json.loads(path_of(root, "val").read_text())
    edit(root, lambda content: None, encoding=encoding)
    prepare()
    assert_used_as(plain)


def set_option(key: str, value) -> None:
    params = load_params()
    params["scales"]["own"]["data"][key] = value
    write_params(params)


def first(key: str, **values) -> Quirk:
    return lambda content: content[key][0].update(copy.deepcopy(values))


def without(key: str, name: str) -> Quirk:
    return lambda content: content[key][0].pop(name)


def mask(value) -> Quirk:
    return first("annotations", segmentation=value)


def rle(counts, size=(HEIGHT, WIDTH)) -> Quirk:
    return mask({"size": list(size), "counts": counts})


AREA = "'area' is not the mask's number of pixels, from 0 to .*: annotation 1"
CROWD = "'iscrowd' is neither 0 nor 1: annotation 1$"
FAR = "polygon far larger than its image or box; is it in pixels of this image[?]: annotation 1$"
NOT_POLYGONS = r"polygon is not a list of finite numbers, as in \[\[x0, .*: annotation 1$"
BOX = "box is not four finite numbers, none beyond ±1,000,000: annotation 1 "
REFUSED = {
    # Which file, the quirk, and what the line says after the file's name.
    "flat polygon": ("val", mask([1.0, 1, 20, 1, 20, 20]), NOT_POLYGONS),
    "flat polygon, train": ("train", mask([1, 1, 20, 1, 20, 20]), NOT_POLYGONS),
    "points as pairs": ("val", mask([[[1, 1], [20, 1], [20, 20]]]), NOT_POLYGONS),
    "points as text": ("val", mask([["1", "1", "20", "1", "20", "20"]]), NOT_POLYGONS),
    "points as yes and no": ("val", mask([[True, 1, 20, 1, 20, 20]]), NOT_POLYGONS),
    "one polygon as a dict": ("val", mask([{"x": 1}]), NOT_POLYGONS),
    "mask as text": ("val", mask("1,1,20,1"), "segmentation is neither .*: annotation 1$"),
    "only a line for a mask": ("val", mask([[1, 1, 9, 9]]), "no mask, .*: annotation 1$"),
    "negative area": ("val", each("annotations", area=lambda a: -a["area"]), AREA),
    "area NaN": ("val", first("annotations", area=float("nan")), AREA),
    "area infinite": ("val", first("annotations", area=float("inf")), AREA),
    "area as text": ("val", first("annotations", area="12"), AREA),
    "area as yes": ("val", first("annotations", area=True), AREA),
    "area beyond all": ("train", first("annotations", area=10**400), AREA),
    "area null": ("val", first("annotations", area=None), "no 'area', which evaluation needs"),
    "iscrowd 2": ("val", first("annotations", iscrowd=2), CROWD),
    "iscrowd as text": ("train", first("annotations", iscrowd="0"), CROWD),
    "iscrowd as list": ("train", first("annotations", iscrowd=[]), CROWD),
    "class name twice": (
        "train",
        lambda c: c["categories"].insert(0, {"id": 0, "name": "heron"}),
        r"two classes of one name, rename or merge them: 'heron' \(categories 0, 12\)$",
    ),
    "class name twice in val": (
        "val",
        lambda c: c["categories"].append({"id": 99, "name": "reed"}),
        r"two classes of one name, rename or merge them: 'reed' \(categories 9, 99\)$",
    ),
    "category without id": (
        "train",
        without("categories", "id"),
        r"'id' missing .*categories\[0\]",
    ),
    "category without name": ("train", without("categories", "name"), r"'name' .*categories\[0\]"),
    "category as text": (
        "train",
        lambda c: c["categories"].__setitem__(0, "heron"),
        r"record is not an object .*: categories\[0\]$",
    ),
    "category ids of two types": (
        "train",
        first("categories", id="12"),
        r"'id' missing or not a whole number: categories\[0\]$",
    ),
    "category id yes": ("train", first("categories", id=True), r"'id' missing .*categories\[0\]"),
    "category name with a lone surrogate": (
        "train",
        first("categories", name="\udc80"),
        r"'name' has characters that cannot be written .*categories\[0\]$",
    ),
    "image id yes": ("train", first("images", id=True), r"'id' missing or .*: images\[0\]$"),
    "width as a float": ("train", first("images", width=96.0), r"'width' .*: images\[0\]$"),
    "file name with NUL": ("val", first("images", file_name="1\0.jpg"), r"'file_name' has char"),
    "over-long file name": (
        "val",
        first("images", file_name="x" * 300),
        "image missing: .*/x{9}.*: File name too long$",
    ),
    "file name of a folder": ("val", first("images", file_name="."), "image missing: "),
    "far polygon": ("val", mask([[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]]), FAR),
    "far polygon, train": ("train", mask([[0, 0, 1e9, 0, 1e9, 1e9]]), FAR),
    "small polygon far off": ("val", mask([[1e9, 1e9, 1e9 + 9, 1e9, 1e9, 1e9 + 9]]), FAR),
    "far polygon of whole numbers": ("train", mask([[0, 0, 10**30, 0, 1, 1]]), FAR),
    "polygon winding without end": (
        "train",
        mask([[0, 0, 90, 0, 90, 70, 0, 70] * 1000]),
        FAR,
    ),
    "far box": ("train", first("annotations", bbox=[1e9, 0, 1e9, 5]), BOX),
    "box with NaN": ("train", first("annotations", bbox=[float("nan"), 0, 9, 5]), BOX),
    "box of yes and no": ("val", first("annotations", bbox=[True, False, 9, 5]), BOX),
    "RLE of another image": ("val", rle("0", (10**9, 10**9)), "RLE size differs .*: annotation 1$"),
    "RLE sides swapped": ("val", rle([WIDTH * HEIGHT], (WIDTH, HEIGHT)), "RLE size differs"),
    "RLE too short": ("val", rle([5, 5]), "RLE counts do not add up to its size: annotation 1$"),
    "RLE beyond 32 bits": ("val", rle([2**32 + WIDTH * HEIGHT]), "RLE counts do not add up"),
    "RLE of one endless number": ("val", rle("P" * 400_000), "RLE with malformed counts"),
    "RLE of yes": ("val", rle([True, WIDTH * HEIGHT - 1]), "RLE with malformed counts"),
    "image of a billion squared": (
        "val",
        first("images", width=10**9, height=10**9),
        r"image of more than 178,956,970 pixels; .*: image 1 \(1000000000 × 1000000000\)$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_one_line_that_names_file_and_record(root, capsys, name):
    part, quirk, message = REFUSED[name]
    edit(root, quirk, [part])
    line = refusal(capsys)
    assert_line(line, path_of(root, part), message)
    assert not Path("data/own/manifest.json").exists()


def assert_line(line: str, file: Path, message: str) -> None:
    prefix = f"error: {file}: "
    assert line.startswith(prefix) and len(line) < 2000
    assert re.search(message, line.removeprefix(prefix)), line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "is nested too deeply to be a COCO json"),
        ('{"info": ' * 100_000 + "1" + "}" * 100_000, "is nested too deeply"),
        ('{"images": ' + "[" * 5000 + "]" * 5000 + "}", "is nested too deeply"),
        ('{"images": [], "images": []}', "key 'images' occurs twice in one object"),
        ('{"images": [{"id": 1, "id": 2}]}', "key 'id' occurs twice in one object"),
        ('{"categories": [{"name": "a", "name": "b"}]}', "key 'name' occurs twice"),
        ('{"images": ' + "9" * 5000 + "}", "is not valid JSON"),
        ('{"images": [}', "is not valid JSON, perhaps truncated"),
        ("[]", "must be a JSON object with images, categories, annotations"),
        ('{"images": [], "categories": [], "annotations": null}', "lacks the top-level list"),
    ],
)
def test_what_is_no_coco_json_is_said_before_anything_else(root, capsys, content, message):
    path_of(root, "train").write_text(content)
    assert_line(refusal(capsys), path_of(root, "train"), message)


def test_the_faults_of_both_files_and_their_images_are_one_line(root, capsys):
    edit(root, first("annotations", iscrowd=3), ["train"])
    edit(root, first("annotations", area=-1), ["val"])
    (root / "train/2.jpg").unlink()
    line = refusal(capsys)
    for words in (CROWD.rstrip("$"), r"image missing: .*train/2.jpg \(image 2\)", AREA):
        assert re.search(words, line), line
    assert line.count("instances_train.json: ") == line.count("instances_val.json: ") == 1


def test_a_set_without_objects_is_refused(root, capsys):
    edit(root, each("annotations", iscrowd=1), ["train"])
    assert_line(refusal(capsys), path_of(root, "train"), "annotations: no object but crowds")


def corners(annotation: dict) -> list[float]:
    x, y, w, h = annotation["bbox"]
    return [x + 40, y + 40, x + 40 + w, y + 40 + h]


def normalised(annotation: dict) -> list[float]:
    return [round(value / side, 3) for value, side in zip(annotation["bbox"], (96, 80) * 2)]  # noqa: B905


LEAVE, BELOW = "leave their image; corners, perhaps?", "are below one pixel; normalised, perhaps?"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (lambda a: a["bbox"], []),
        (corners, [LEAVE]),
        (normalised, [BELOW]),
        (lambda a: [*a["bbox"][:2], 500, 500], [LEAVE]),
        (lambda a: [-20, *a["bbox"][1:]], [LEAVE]),
        (lambda a: [*a["bbox"][:2], 1, 0.5], [BELOW]),
        (lambda a: corners(a) if a["id"] < 3 else a["bbox"], []),  # a few prove nothing
        (lambda a: [-1, -1, 97, 81], []),  # rounded outwards
    ],
)
def test_boxes_in_another_form_are_warned_of(root, capsys, box, expected):
    edit(root, each("annotations", bbox=box), ["train"])
    prepare()
    lines = [x for x in capsys.readouterr().err.splitlines() if "warning" in x]
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected, strict=True):
        assert words in line and line.startswith(f"warning: {path_of(root, 'train')}: ")


def layout(train: str, train_images: str, val: str, val_images: str) -> dict[str, str]:
    keys = ("train_annotations", "train_images", "val_annotations", "val_images")
    return dict(zip(keys, (train, train_images, val, val_images), strict=True))


@pytest.mark.parametrize(
    "places",
    [
        layout("train/_annotations.coco.json", "train", "valid/_annotations.coco.json", "valid"),
        layout("train.json", "images/a b/train", "deep/er/val.json", "images/a b/val"),
        layout("result.json", ".", "result_val.json", "v"),
        layout("../jsons/t.json", "train", "../jsons/v.json", "../elsewhere"),
    ],
)
def test_annotations_and_images_lie_where_data_says(root, places):
    plain = json.loads(path_of(root, "val").read_text())
    for name in SETS:
        images = root / places[f"{name}_images"]
        if images != root / name:
            shutil.copytree(root / name, images, dirs_exist_ok=True)
        file = root / places[f"{name}_annotations"]
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path_of(root, name), file)
        if images != root / name and images != root:
            shutil.rmtree(root / name)
    (root / "annotations").rmdir()
    for key, value in places.items():
        set_option(key, value)
    prepare()
    assert_used_as(plain)
    written = json.loads(Path("runs/own/inputs.json").read_text())
    assert written["train"]["files"] >= 3 and written["val"]["annotations"]


def test_data_are_not_kept_where_the_stage_writes(root, capsys):
    shutil.move(root, "data/own")
    own_params(Path("data/own"))
    assert "is where stage `data` writes; move your data elsewhere" in refusal(capsys)
    assert Path("data/own/train/1.jpg").exists()
