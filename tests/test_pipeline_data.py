"""The stages `data` and `splits`, run as a user runs them, in an empty working directory."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parameters import write_params
from PIL import Image

from opmask.data import coco
from opmask.errors import EXIT_STATUS, UserError, main
from pipeline import data, splits, write_json
from pipeline.plan import check_splits
from study.spec.params import load_params
from study.spec.run import all_runs

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "kind": "coco",
    "train_annotations": "train.json",
    "train_images": "images",
    "val_annotations": "val.json",
    "val_images": "images",
}
MINIATURE = {
    "kind": "miniature",
    "seed": 0,
    "image_size": 96,
    "train_images": 80,
    "val_images": 80,
    "min_train_instances": 1,
    "min_val_instances": 1,
}


def write_coco(root: Path) -> None:
    """Two 20 × 10 images; train: cat with a mask, dog without, and a crowd; val: both masked."""
    (root / "images").mkdir(parents=True)
    for number in (1, 2):
        Image.fromarray(np.full((10, 20, 3), number, np.uint8)).save(root / f"images/{number}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in (1, 2)]
    categories = [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}]
    polygon = {"segmentation": [[1, 1, 5, 1, 5, 5]]}
    boxes = [
        {"id": i, "image_id": 1, "category_id": category, "bbox": [1, 1, 4, 4], "area": 8}
        | {"iscrowd": int(i == 3)}
        for i, category in ((1, 5), (2, 9), (3, 9))
    ]
    train = [boxes[0] | polygon, boxes[1], boxes[2]]
    for name, annotations in (("train", train), ("val", [b | polygon for b in boxes])):
        content = {"images": images, "categories": categories, "annotations": annotations}
        (root / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory whose params.yaml has a `coco` scale named `mine`."""
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "coco")
    params = load_params(ROOT / "params.yaml")
    params |= {"scale": "mine", "data_root": "coco", "splits": {"cats": ["cat"]}}
    own, smoke = (params["scales"][name] for name in ("own", "smoke"))
    params["scales"] = {"mine": own | {"data": SETTINGS}, "tiny": smoke | {"data": MINIATURE}}
    write_params(params)
    return tmp_path


def change(**values) -> None:
    params = load_params()
    write_params(params | values)


def change_data(settings) -> None:
    """Of the scale `mine`."""
    scales = load_params()["scales"]
    change(scales=scales | {"mine": scales["mine"] | {"data": settings}})


def error_of(stage, capsys) -> str:
    """The one line on stderr of a stage that exits with 2."""
    with pytest.raises(SystemExit) as caught:
        stage([])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_users_folder_gives_a_manifest(project):
    data.run([])
    written = json.loads(Path("data/mine/manifest.json").read_text())
    assert written["kind"] == "coco" and written["root"] == str(project / "coco")
    manifest = coco.load_manifest(Path("data/mine/manifest.json"))
    assert manifest.train.annotations == Path("data/mine/annotations/train.json")
    digest = hashlib.sha256(manifest.train.annotations.read_bytes()).hexdigest()
    assert written["train"]["annotations_sha256"] == digest
    given = json.loads((project / "coco/train.json").read_text())
    assert json.loads(manifest.train.annotations.read_text()) == given
    assert manifest.val.images == project / "coco/images"
    counts = {"images": 2, "annotations": 3, "with_masks": 1, "crowd": 1, "degenerate": 0}
    assert manifest.train.counts == counts
    assert manifest.val.counts == counts | {"with_masks": 3}


def test_the_data_may_be_at_home(project, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(project))
    change(data_root="~/coco", runs=["opmask-lite0-cats"])
    data.run([])
    written = json.loads(Path("data/mine/manifest.json").read_text())
    assert written["root"] == str(project / "coco")
    check_splits(all_runs(load_params()), load_params())  # reads the annotations
    change(data_root="~nobody-of-this-name")
    assert "data_root: ~nobody-of-this-name: " in error_of(data.run, capsys)


def test_splits_counts_boxes_and_masks(project):
    data.run([])
    splits.run([])
    written = json.loads(Path("runs/mine/splits.json").read_text())
    assert written["cats"] == {
        "supervised": {
            "names": ["cat"],
            "category_ids": [5],
            "train_instances": 1,
            "train_masks": 1,
            "val_instances": 1,
        },
        "novel": {
            "names": ["dog"],
            "category_ids": [9],
            "train_instances": 1,
            "train_masks": 0,
            "val_instances": 1,
        },
        "evaluated": "novel",
    }
    assert list(written) == ["all", "cats"]  # the paper's splits need COCO's classes
    assert written["all"]["evaluated"] == "supervised"


def test_a_missing_folder_or_file_is_named_with_the_remedy(project, capsys):
    (project / "coco/val.json").unlink()
    line = error_of(data.run, capsys)
    assert f"{project}/coco/val.json: no such file" in line and "-S data_root=" in line
    change(data_root="/nowhere")
    assert "/nowhere: no such folder" in error_of(data.run, capsys)
    assert not Path("data/mine/manifest.json").exists()


def test_the_official_layout_is_checked_if_asked_for(project, capsys):
    change_data(SETTINGS | {"official": True})
    assert "0 of 118,287 images" in error_of(data.run, capsys)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "voc"}, "scales/mine.yaml: data.kind: 'voc' is not miniature or coco"),
        ({"check_images": "all"}, "check_images: 'all' is not header, exist or decode"),
        ({"on_degenerated": "skip"}, "on_degenerated: unknown key; did you mean 'on_degenerate'?"),
    ],
)
def test_wrong_settings_are_named(project, capsys, settings, message):
    change_data(SETTINGS | settings)
    assert message in error_of(data.run, capsys)


def test_a_missing_setting_is_named(project, capsys):
    change_data({k: v for k, v in SETTINGS.items() if k != "val_images"})
    assert "scales/mine.yaml: data.val_images: is missing" in error_of(data.run, capsys)


def test_settings_for_degenerate_shapes_and_images_reach_the_check(project, capsys):
    content = json.loads((project / "coco/train.json").read_text())
    content["annotations"][0]["bbox"] = [1, 1, 0, 4]
    (project / "coco/train.json").write_text(json.dumps(content))
    (project / "coco/images/1.png").write_bytes(b"no image")
    assert "annotation 1 [1, 1, 0, 4]" in error_of(data.run, capsys)
    change_data(SETTINGS | {"on_degenerate": "skip"})
    assert "image unreadable" in error_of(data.run, capsys)
    lenient = {"on_degenerate": "skip", "check_images": "exist"}
    change_data(SETTINGS | lenient)
    data.run([])
    manifest = coco.load_manifest(Path("data/mine/manifest.json"))
    assert manifest.train.counts["degenerate"] == 1


def test_val_without_masks_is_refused(project, capsys):
    change_data(SETTINGS | {"val_annotations": "train.json"})
    assert "no mask, which evaluation needs: annotation 2, annotation 3" in error_of(
        data.run, capsys
    )


def test_splits_explains_what_it_lacks(project, capsys):
    assert "run the `data` stage first" in error_of(splits.run, capsys)
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/manifest.json").write_text("{}")
    assert "is no manifest" in error_of(splits.run, capsys)
    data.run([])
    change(splits={"cats": ["cta"]})
    assert "near names: cat" in error_of(splits.run, capsys)


@pytest.mark.parametrize("change", [{"name": "lion"}, {"id": 6, "name": "cat"}])
def test_both_files_must_have_the_same_categories(project, capsys, change):
    content = json.loads((project / "coco/val.json").read_text())
    content["categories"][0] |= change
    for annotation in content["annotations"]:
        annotation["category_id"] = 9
    (project / "coco/val.json").write_text(json.dumps(content))
    line = error_of(data.run, capsys)
    assert f"{project}/coco/val.json: categories: ids and names differ" in line
    assert not Path("data/mine/manifest.json").exists()


def test_an_unknown_scale_lists_the_scales(project, capsys):
    change(scale="huge")
    assert "mine, tiny" in error_of(data.run, capsys)


@pytest.mark.slow
def test_the_miniature_is_built_anew_with_a_relative_manifest(project):
    change(scale="tiny")
    stale = Path("data/tiny/stale")
    stale.parent.mkdir(parents=True)
    stale.touch()
    data.run([])
    assert not stale.exists()
    written = json.loads(Path("data/tiny/manifest.json").read_text())
    assert written["root"] == "."
    manifest = coco.load_manifest(Path("data/tiny/manifest.json"))
    assert manifest.train.counts["images"] == 80
    assert manifest.val.annotations.is_file() and manifest.train.images.is_dir()
    splits.run([])
    assert "voc20" in json.loads(Path("runs/tiny/splits.json").read_text())


@pytest.mark.parametrize("stage", ["data", "splits"])
def test_stages_explain_themselves_without_torch(stage):
    code = (
        f"import sys; from pipeline import {stage}\n"
        f"try: {stage}.run(['--help'])\n"
        "finally: assert not {'torch', 'detectron2'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Stage `{stage}`" in done.stdout
    assert done.stdout.rstrip().endswith(EXIT_STATUS)


def test_writing_leaves_the_old_file_if_it_fails(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [(UserError("a\nb"), 2, "error: a b\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_main_turns_errors_for_the_user_into_exit_codes(capsys, raised, code, message):
    @main
    def stage(argv):
        raise raised

    with pytest.raises(SystemExit) as caught:
        stage([])
    assert caught.value.code == code
    assert capsys.readouterr().err == message


def test_main_lets_bugs_pass_and_reads_the_command_line(monkeypatch):
    seen = []

    @main
    def stage(argv):
        seen.append(list(argv))
        raise ValueError

    monkeypatch.setattr(sys, "argv", ["program", "--flag"])
    with pytest.raises(ValueError):
        stage()
    assert seen == [["--flag"]]
