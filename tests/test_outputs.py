"""Predictions replace what predictions wrote; nothing else is overwritten, removed or followed."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_predict import ALL, THRESHOLD, write_run
from tiny import write_images

from opmask import predict
from opmask.errors import EXIT_STATUS, UserError
from opmask.outputs import RECORD, Outputs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Three pictures in the working directory's `photos`, one of them in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 3)
    Path("photos/instances.json").unlink()
    Path("photos/more").mkdir()
    Path("photos/3.png").rename("photos/more/3.png")
    return Path("photos")


def state(folder: Path = Path()) -> dict[str, str]:
    """Digest, or what a link says, of everything below, folders included."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            content = path.read_bytes() if path.is_file() else b"folder"
            found[str(path)] = hashlib.sha256(content).hexdigest()
    return found


def run(trained: Path, *words) -> None:
    predict.run([*map(str, words), "-r", "--run", str(trained), "--threshold", str(THRESHOLD)])


def refused(trained: Path, capsys, *words) -> str:
    """The line of a command that is refused and has changed nothing."""
    before = state()
    with pytest.raises(SystemExit) as ending:
        run(trained, *words)
    assert ending.value.code == 2
    assert state() == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_a_command_may_be_repeated_and_replaces_its_own(trained, photos):
    run(trained, photos, "--out", "out", *ALL)
    first = state()
    run(trained, photos, "--out", "out", *ALL)
    assert state() == first  # the record is no longer either
    masks = sorted(Path("out/1").glob("*.png"))
    assert len(masks) > 1 and Path("out/more/3.png").is_file()
    predict.run(["photos", "-r", "--run", str(trained), "--out", "out", "--threshold", "1", *ALL])
    assert not list(Path("out/1").iterdir())  # nothing is found with such a score
    assert state(Path("out"))["out/1.png"] != first["out/1.png"]
    run(trained, photos, "--out", "out", *ALL)
    assert {k: v for k, v in state().items() if RECORD not in k} == {
        k: v for k, v in first.items() if RECORD not in k
    }


@pytest.mark.parametrize("out", ["photos", "./photos/../photos", "link"])
def test_images_are_never_results(out, trained, photos, capsys):
    Path("link").symlink_to("photos")
    line = refused(trained, capsys, photos, "--out", out)
    assert "photos/1.png: is one of the images given; give another --out" in line
    line = refused(trained, capsys, "link", "--out", "photos")
    assert "photos/1.png: is one of the images given" in line


@pytest.mark.slow
def test_results_may_lie_among_the_images_and_are_no_images_then(trained, photos):
    before = state(photos)
    for _ in range(2):
        run(trained, photos, "--out", "photos/found")
        assert sorted(p.name for p in Path("photos/found").iterdir()) == [
            RECORD, "1.png", "2.png", "more",
        ]  # fmt: skip
    assert before.items() <= state(photos).items()
    for name in ("1", "2", "more/3"):
        Image.open(f"photos/{name}.png").convert("RGB").save(f"photos/{name}.jpg")
        Path(f"photos/{name}.png").unlink()
    shutil.rmtree("photos/found")
    run(trained, photos, "--out", "photos")  # 1.png beside 1.jpg
    once = state()
    run(trained, photos, "--out", "photos")
    assert state() == once and Path("photos/more/3.png").is_file()


def test_a_linked_folder_below_the_output_is_not_followed(trained, photos, capsys):
    Path("mine").mkdir()
    Path("mine/3.png").write_text("mine")
    Path("out").mkdir()
    Path("out/more").symlink_to("../mine")
    line = refused(trained, capsys, photos, "--out", "out")
    assert line.endswith("out/more: is a link, which is not followed; move it away, or give another"
                         " --out")  # fmt: skip
    line = refused(trained, capsys, photos / "more/3.png", photos, "--out", "out", *ALL)
    assert "is a link" in line


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mine.png", "nowhere.png", "photos/2.png"])
def test_a_linked_file_is_not_followed(target, trained, photos, capsys):
    Path("mine.png").write_text("mine")
    Path("out").mkdir()
    Path("out/1.png").symlink_to(Path(target).absolute())
    line = refused(trained, capsys, photos, "--out", "out")
    assert "out/1.png: is no plain file" in line or "out/1.png: is one of the images" in line
    Path("out/1.png").unlink()
    run(trained, photos, "--out", "out")
    Path("out/1.png").unlink()
    Path("out/1.png").symlink_to(Path(target).absolute())  # in place of a result
    refused(trained, capsys, photos, "--out", "out")


def test_a_hard_link_to_an_image_is_an_image(trained, photos, capsys):
    run(trained, photos, "--out", "out")
    os.replace("out/1.png", "photos/4.png")
    os.link("photos/4.png", "out/1.png")
    assert "out/1.png: is one of the images" in refused(trained, capsys, photos, "--out", "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1.png", "more/3.png", "images.json", "detections.json", "2",
                                  "2/01_cat_0.93.png", "more", "1/x"])  # fmt: skip
def test_files_of_others_are_not_overwritten(name, trained, photos, capsys):
    path = Path("out", name)
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    if name == "1/x":  # in no one's way
        run(trained, photos, "--out", "out", *ALL)
        run(trained, photos, "--out", "out", *ALL)
        assert path.read_text() == "mine"
        return
    line = refused(trained, capsys, photos, "--out", "out", *ALL)
    assert f"out/{name}: " in line and "give another --out" in line
    path.rename("elsewhere")
    run(trained, photos, "--out", "out", *ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1.png", "images.json", "2/*.png"])
def test_a_result_that_somebody_changed_is_theirs(name, trained, photos, capsys):
    run(trained, photos, "--out", "out", *ALL)
    path = sorted(Path("out").glob(name))[0]
    path.write_bytes(path.read_bytes() + b" ")
    line = refused(trained, capsys, photos, "--out", "out", *ALL)
    assert f"{path}: was changed since it was written" in line
    path.unlink()
    run(trained, photos, "--out", "out", *ALL)


def test_images_of_one_name_from_two_folders_are_refused(trained, photos, capsys):
    shutil.copytree("photos", "others")
    line = refused(trained, capsys, photos, "others", "--out", "out")
    assert "photos/1.png, others/1.png: both would be 1.png in the output folder" in line


def test_the_output_is_a_folder_with_a_record_of_ours(trained, photos, capsys):
    Path("file").write_text("mine")
    assert "file: is no folder" in refused(trained, capsys, photos, "--out", "file")
    Path("out").mkdir()
    record = Path("out", RECORD)
    record.write_text("mine")
    assert f"{RECORD}: is not the record" in refused(trained, capsys, photos, "--out", "out")
    record.unlink()
    record.symlink_to("../file")
    assert f"{RECORD}: is not the record" in refused(trained, capsys, photos, "--out", "out")


@pytest.mark.slow
def test_a_record_of_somebody_else_reaches_no_file_elsewhere(trained, photos, tmp_path, capsys):
    """It is asked for the names of results alone, and never followed."""
    run(trained, photos, "--out", "out", *ALL)
    record = Path("out", RECORD)
    victim = tmp_path / "victim.png"
    victim.write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    with record.open("a") as file:
        for name in ("../victim.png", str(victim), "1/../../victim.png", 3, None, ["x"]):
            file.write(
                f'["{digest}", {str(name) if name is None else repr(name)}]\n'.replace("'", '"')
            )
        file.write('["half a li')
    run(trained, photos, "--out", "out", *ALL)
    assert victim.read_text() == "mine"


def test_a_kill_at_any_write_leaves_what_can_be_repeated(tmp_path, monkeypatch):
    """The record is written first, so that a file is known as ours from its first moment."""
    for stop in range(6):
        outputs, calls = Outputs(tmp_path / f"out{stop}"), []

        def replace(old, new, calls=calls, stop=stop):
            calls.append(new)
            if len(calls) > stop:
                raise KeyboardInterrupt
            return os.rename(old, new)

        with monkeypatch.context() as patch:
            patch.setattr("opmask.outputs.os.replace", replace)
            with pytest.raises(KeyboardInterrupt):
                for _ in range(3):
                    for name in ("a.png", "b/c.png"):
                        outputs.write(name, f"{name}{len(calls)}".encode())
        again = Outputs(tmp_path / f"out{stop}")
        again.check(["a.png", "b/c.png"])
        again.write("a.png", b"new")
        assert (again.folder / "a.png").read_bytes() == b"new"
        assert not list(again.folder.rglob(".partial*"))


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    Outputs(tmp_path).write("a", b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from opmask.errors import main; from opmask.outputs import Outputs\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "main(lambda argv: Outputs(Path(argv[0])).write('a', b'x' * 10000))()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/a: cannot be written (File too large)\n"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "a"]


def test_into_a_pipe_lines_come_when_they_are_due():
    """Else what a stage says stands behind its progress bar, or all at the end."""
    code = (
        "import sys; from opmask.errors import main\n"
        "main(lambda _: (print('first'), sys.stderr.write('second\\n')))([])\n"
    )
    here = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=here, **how)
    assert done.stdout == "first\nsecond\n"


def test_help_says_what_exit_codes_mean(capsys):
    with pytest.raises(SystemExit):
        predict.run(["--help"])
    text = capsys.readouterr().out
    assert text.rstrip().endswith(EXIT_STATUS) and RECORD in text


def test_names_need_not_be_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    Outputs(tmp_path).write(name, b"1")
    again = Outputs(tmp_path)
    again.write(name, b"2")
    assert tmp_path / name in again and (tmp_path / name).read_bytes() == b"2"
    Path(tmp_path / name).write_bytes(b"3")
    with pytest.raises(UserError, match="was changed since"):
        again.write(name, b"4")


def test_pictures_are_the_same_as_before(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Outputs(tmp_path).write("a.png", predict.as_png(pixels))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
