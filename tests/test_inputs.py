"""Changed inputs are noticed: the listing of data_root, and the digest over images' contents."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_set import own_params, write_set
from parameters import write_params

from opmask.data import digests
from opmask.errors import UserError
from pipeline import data, inputs
from study.spec.params import load_params

ROOT = Path(__file__).parents[1]
LONG_AGO = 10**18  # ns since 1970


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory with a set of scale `own`, whose files are old."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "set", 3, 2)
    own_params(tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.*"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return tmp_path / "set"


def listed() -> dict:
    inputs.run([])
    return json.loads(Path("runs/own/inputs.json").read_text())


def described() -> str:
    data.run([])
    return Path("data/own/manifest.json").read_text()


def flip(path: Path, at: int, time: int = LONG_AGO) -> None:
    """Another byte in place of one, in a file that says it was modified at `time`."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def test_the_listing_counts_files_of_the_named_places(project):
    found = listed()
    assert {name: part["files"] for name, part in found.items()} == {"train": 3, "val": 2}
    size = (project / "annotations/instances_val.json").stat().st_size
    assert found["val"]["annotations"] == [size, LONG_AGO]
    assert listed() == found


CHANGES = {
    "an image is touched": lambda root: os.utime(root / "train/2.jpg"),
    "an image grows": lambda root: (root / "val/1.jpg").open("ab").write(b"x"),
    "an image is added": lambda root: (root / "train/new.jpg").touch(),
    "an image is removed": lambda root: (root / "train/3.jpg").unlink(),
    "an image is renamed": lambda root: (root / "train/3.jpg").rename(root / "train/4.jpg"),
    "an image lies deeper": lambda root: (root / "train/3.jpg").rename(root / "train/a/3.jpg"),
    "annotations are touched": lambda root: os.utime(root / "annotations/instances_train.json"),
    "annotations are gone": lambda root: (root / "annotations/instances_val.json").unlink(),
    "all are gone": lambda root: root.rename(root.with_name("elsewhere")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_shows_in_the_listing(project, name):
    (project / "train/a").mkdir()
    before = listed()
    CHANGES[name](project)
    assert listed() != before


def test_files_elsewhere_do_not_show(project):
    before = listed()
    (project / "notes.txt").touch()
    (project / "annotations/other.json").touch()
    assert listed() == before


def test_linked_folders_are_followed_once(project):
    (project / "train").rename(project / "real")
    (project / "train").symlink_to("real")
    (project / "real/again").symlink_to(".")
    before = listed()
    assert before["train"]["files"] == 3
    os.utime(project / "real/2.jpg")
    assert listed() != before


def test_names_that_are_no_unicode_are_listed(project):
    Path(os.fsdecode(bytes(project) + b"/train/\xff.jpg")).touch()
    assert listed()["train"]["files"] == 4


def test_the_embedded_data_set_has_no_inputs(project):
    params = load_params()
    write_params(params | {"scale": "smoke"})
    inputs.run([])
    assert json.loads(Path("runs/smoke/inputs.json").read_text()) == {}


def test_the_listing_needs_no_heavy_package():
    heavy = {"torch", "detectron2", "numpy", "pandas", "PIL", "pycocotools"}
    code = f"import sys, pipeline.inputs\nassert not {heavy} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_touched_files_change_the_listing_but_not_the_manifest(project):
    before = described()
    for path in project.rglob("*.*"):
        os.utime(path)
    assert described() == before


def test_one_changed_byte_changes_the_manifest(project):
    before = described()
    flip(project / "train/2.jpg", -20, LONG_AGO + 1)
    assert described() != before
    flip(project / "train/2.jpg", -20, LONG_AGO + 2)
    assert described() == before


def test_annotations_that_say_the_same_give_the_same_manifest(project):
    before = described()
    path = project / "annotations/instances_train.json"
    content = json.loads(path.read_text()) | {"info": {"year": 2026}}
    path.write_text(json.dumps(content, indent=3))
    assert described() == before
    content["annotations"][0]["bbox"][2] += 1
    path.write_text(json.dumps(content))
    assert described() != before


def test_by_stat_the_manifest_goes_by_sizes_and_times(project):
    params = load_params()
    params["scales"]["own"]["data"]["digest_images"] = "stat"
    write_params(params)
    before = described()
    flip(project / "train/2.jpg", -20)
    assert described() == before
    os.utime(project / "train/2.jpg")
    assert described() != before
    assert not Path("work").exists()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three old files of known contents."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        write(tmp_path / "images" / name, name)
    return tmp_path / "images"


def write(path: Path, content: str, time: int = LONG_AGO) -> None:
    path.write_text(content)
    os.utime(path, ns=(time, time))


def digest(folder: Path, index: str | None = "index") -> str:
    path = folder.parent / index if index else None
    return digests.digest_images(folder, ["c", "a", "b"], "contents", path)


def expected(**contents: str) -> str:
    lines = [f"{n}\0{hashlib.sha256(c.encode()).hexdigest()}\n" for n, c in contents.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_digest_is_that_of_sorted_names_and_contents(folder):
    assert digest(folder) == digest(folder, None) == expected(a="a", b="b", c="c")


def test_only_changed_files_are_read_again(folder, monkeypatch):
    read, plain = [], digests._sha256
    monkeypatch.setattr(digests, "_sha256", lambda path: read.append(path.name) or plain(path))
    digest(folder)
    assert sorted(read) == ["a", "b", "c"]
    digest(folder)
    assert len(read) == 3
    write(folder / "b", "x", LONG_AGO + 1)  # another time
    write(folder / "c", "yy")  # another size
    assert digest(folder) == expected(a="a", b="x", c="yy")
    assert sorted(read[3:]) == ["b", "c"]


def test_a_file_that_may_still_change_unnoticed_is_read_again(folder):
    (folder / "b").write_text("b")  # now
    state = (folder / "b").stat()
    digest(folder)
    (folder / "b").write_text("x")
    os.utime(folder / "b", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert digest(folder) == expected(a="a", b="x", c="c")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw.replace(b'"files"', b'"fills"'),
        lambda raw: raw[:-10] + bytes([raw[-10] ^ 1]) + raw[-9:],
        lambda raw: b"{}",
        lambda raw: b"\xff" * 100,
    ],
)
def test_a_damaged_index_is_made_anew(folder, damage):
    digest(folder)
    index = folder.parent / "index"
    whole = index.read_bytes()
    index.write_bytes(damage(whole))
    assert digest(folder) == expected(a="a", b="b", c="c")
    assert index.read_bytes() == whole


def test_the_index_of_another_folder_is_not_believed(folder):
    digest(folder)
    other = folder.with_name("other")
    other.mkdir()
    for name in ("a", "b", "c"):
        write(other / name, name.upper())
    assert digest(other) == expected(a="A", b="B", c="C")


def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "b").unlink()
    with pytest.raises(UserError, match=f"{folder}/b: cannot be read"):
        digest(folder)
    (folder / "b").mkdir()
    with pytest.raises(UserError, match=f"{folder}/b: cannot be read"):
        digest(folder)
