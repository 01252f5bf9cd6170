"""`python -m opmask.data check`: what is there and missing of COCO, and any set's usability."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny import write_images

from opmask.data import __main__ as command
from opmask.data import coco_files
from opmask.data.coco_files import Archive, File

ROOT = Path(__file__).parents[1]


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A miniature of the distribution: a folder with two archives, known to `opmask.data`."""
    source = tmp_path / "published"
    source.mkdir()
    with zipfile.ZipFile(source / "annotations.zip", "w") as file:
        file.writestr("annotations/train.json", "{}")
    with zipfile.ZipFile(source / "val.zip", "w") as file:
        for name in ("1", "2"):
            file.writestr(f"val/{name}.jpg", name)
    archives = (
        Archive(as_file(source, "annotations.zip"),
                (File("annotations/train.json", 2, sha256(b"{}")),)),
        Archive(as_file(source, "val.zip"), (), "val", 2),
    )  # fmt: skip
    monkeypatch.setitem(command.LAYOUTS, "coco", archives)
    return source


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def as_file(folder: Path, name: str) -> File:
    content = (folder / name).read_bytes()
    return File(f"zips/{name}", len(content), f"md5:{hashlib.md5(content).hexdigest()}")


def check(root: Path, *words: str, capsys) -> tuple[int, dict[str, list[str]], str]:
    """Exit status, the table's cells by item, and what stands below the table."""
    try:
        command.run(["check", "--root", str(root), *words])
        code = 0
    except SystemExit as ending:
        code = ending.code
    table, _, advice = capsys.readouterr().out.partition("\n\n")
    rows = [line.split("  ") for line in table.splitlines()[2:]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return code, {name: rest for name, *rest in cells}, advice


def unpack(source: Path, root: Path, *names: str) -> None:
    for name in names:
        zipfile.ZipFile(source / name).extractall(root)


def test_an_empty_folder_lacks_everything_and_says_where_it_is(published, tmp_path, capsys):
    root = tmp_path / "coco"
    root.mkdir()
    code, items, advice = check(root, capsys=capsys)
    assert code == 1
    assert {name: cells[0] for name, cells in items.items()} == {
        "annotations/train.json": "missing",
        "annotations.zip": "not needed",
        "val/": "missing",
        "val.zip": "not needed",
    }
    assert items["annotations/train.json"][1:] == ["2 bytes", sha256(b"{}")]
    for name in ("annotations.zip", "val.zip"):
        file = as_file(published, name)
        assert f"http://images.cocodataset.org/zips/{name} " in advice
        assert file.checksum in advice and items[name][1:] == [f"{file.size} bytes", file.checksum]


def test_all_there(published, tmp_path, capsys):
    root = tmp_path / "coco"
    unpack(published, root, "annotations.zip", "val.zip")
    (root / "val.zip").write_bytes((published / "val.zip").read_bytes())
    code, items, advice = check(root, capsys=capsys)
    assert (code, advice.strip()) == (0, "All is there.")
    assert items["val/"] == ["complete", "2 of 2 images"]
    assert items["val.zip"][0] == items["annotations/train.json"][0] == "complete"


def test_what_is_damaged_or_incomplete_is_to_be_fetched_again(published, tmp_path, capsys):
    root = tmp_path / "coco"
    unpack(published, root, "annotations.zip", "val.zip")
    (root / "annotations/train.json").write_text("[]")  # of the right size
    (root / "val/2.jpg").unlink()
    code, items, advice = check(root, capsys=capsys)
    assert code == 1
    assert items["annotations/train.json"] == ["differs", "2 bytes", sha256(b"[]")]
    assert items["val/"] == ["incomplete", "1 of 2 images"]
    assert "Not as published: annotations/train.json" in advice
    assert "annotations.zip" in advice and "val.zip" in advice
    code, items, _ = check(root, "--quick", capsys=capsys)
    assert items["annotations/train.json"] == ["complete", "2 bytes", "not read"]


def test_an_archive_that_is_there_is_only_to_be_unpacked(published, tmp_path, capsys):
    root = tmp_path / "coco"
    root.mkdir()
    whole = (published / "val.zip").read_bytes()
    (root / "val.zip").write_bytes(whole)
    assert (
        f"Unpack in {root}: http://images.cocodataset.org/zips/val.zip"
        in (check(root, capsys=capsys)[2])
    )
    (root / "val.zip").write_bytes(whole[:-1])
    _, items, advice = check(root, capsys=capsys)
    assert items["val.zip"][0] == "differs"
    assert f"Fetch and unpack in {root}: http://images.cocodataset.org/zips/val.zip" in advice


def test_published_values_are_well_formed():
    files = [file for a in coco_files.ARCHIVES for file in (a.zip, *a.files)]
    lengths = {"md5": 32, "sha256": 64}
    for file in files:
        algorithm, value = file.checksum.split(":")
        assert len(bytes.fromhex(value)) * 2 == lengths[algorithm] and file.size > 10**7
    assert len({file.checksum for file in files}) == len(files)
    assert coco_files.readable(19_336_861_798) == "19.3 GB"


def test_own_set_is_counted_by_class(tmp_path):
    data = write_images(tmp_path, 3)
    content = json.loads(data.annotations.read_text())
    for annotation in content["annotations"]:
        if annotation["category_id"] in (7, 11):
            del annotation["segmentation"]
    data.annotations.write_text(json.dumps(content))
    output = own_check(data.annotations, tmp_path)
    rows = [line.split() for line in output.stdout.splitlines()[2:6]]
    assert rows == [
        ["3", "disc", "3", "3"],
        ["5", "box", "3", "3"],
        ["7", "bar", "3", "0"],
        ["11", "dot", "3", "0"],
    ]
    assert "3 images, 12 annotations: 6 with masks" in output.stdout
    assert output.returncode == 0
    refused = own_check(data.annotations, tmp_path, "--evaluation")
    assert refused.returncode == 2
    assert "no mask, which evaluation needs: annotation 3, annotation 4" in refused.stderr


def own_check(annotations: Path, images: Path, *more: str) -> subprocess.CompletedProcess:
    words = ["--annotations", str(annotations), "--images", str(images), *more]
    return subprocess.run(
        [sys.executable, "-m", "opmask.data", "check", *words],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--root", "nowhere"], "nowhere: no such folder"),
        ([], "give either --root, or both --annotations and --images"),
        (["--annotations", "a.json"], "give either --root, or both"),
        (["--root", "x", "--annotations", "a.json", "--images", "i"], "give either --root"),
        (["--annotations", "a.json", "--images", "i"], "a.json: no such annotation file"),
    ],
)
def test_unusable_arguments_say_why(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        command.run(["check", *words])
    assert ending.value.code == 2
    assert message in capsys.readouterr().err
