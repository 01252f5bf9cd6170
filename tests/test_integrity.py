"""Checksums as coreutils checks them; what is damaged is refused by name."""

import errno
import os
import shutil
import subprocess

import pytest

from opmask import integrity
from opmask.errors import UserError, main


@pytest.fixture
def published(tmp_path):
    partial = tmp_path / "run.partial"
    (partial / "losses").mkdir(parents=True)
    (partial / "weights.pth").write_bytes(bytes(range(256)) * 40)
    (partial / "losses" / "a b.tsv").write_text("step\tloss\n1\t2.0\n")
    integrity.publish(partial, tmp_path / "run")
    return tmp_path / "run"


def refused(folder, *names) -> str:
    with pytest.raises(UserError) as error:
        integrity.require_whole(folder, names or None, remedy="dvc repro train@x")
    assert "\n" not in str(error.value) and "dvc repro train@x" in str(error.value)
    return str(error.value)


def test_the_format_is_that_of_sha256sum(published):
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=published, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "losses/a b.tsv: OK\nweights.pth: OK\n"
    integrity.require_whole(published, remedy="")
    assert not list(published.parent.glob("*partial*"))


def test_a_file_of_its_own_as_well(tmp_path):
    with integrity.summed_file(tmp_path / "model.pth") as file:
        file.write(b"weights")
    command = ["sha256sum", "--check", "--strict", "model.pth.sha256"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert integrity.damage(tmp_path / "model.pth") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pth", "model.pth.sha256"]


@pytest.mark.parametrize("offset", [0, 1, 5000, 10239])
def test_one_flipped_bit(published, offset):
    data = bytearray((published / "weights.pth").read_bytes())
    data[offset] ^= 4
    (published / "weights.pth").write_bytes(data)
    assert f"{published / 'weights.pth'}: damaged" in refused(published)
    assert "weights.pth: damaged" in refused(published, "weights.pth")
    integrity.require_whole(published, ["losses"], remedy="")  # only what is read is checked


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, bytes(range(256)) * 39])
def test_emptied_zeroed_and_truncated(published, content):
    (published / "weights.pth").write_bytes(content)
    assert "weights.pth: damaged" in refused(published, "weights.pth")


def test_a_missing_file_is_named_in_a_folder_asked_for_as_a_whole(published):
    (published / "losses" / "a b.tsv").unlink()
    assert "a b.tsv: missing" in refused(published, "losses")
    with pytest.raises(UserError, match="a b.tsv: missing"):
        integrity.verified(published / "losses")


def test_a_file_that_is_not_listed(published):
    (published / "more").write_text("")
    assert "SHA256SUMS does not list it" in refused(published, "more")


@pytest.mark.parametrize(
    "text",
    ["", "0" * 63 + "  a\n", "x" * 64 + "  a\n", "0" * 64 + "  /etc/passwd\n"]
    + ["0" * 64 + f"  {name}\n" for name in ("../other", "a/../../b", "..", "", "a\0b")]
    + ["0" * 64 + "  weights.pth"],
)
def test_damaged_or_hostile_checksums(published, text):
    (published / "SHA256SUMS").write_text(text)
    assert "SHA256SUMS: damaged" in refused(published, "weights.pth")


def test_no_checksums_at_all(published):
    (published / "SHA256SUMS").unlink()
    assert "SHA256SUMS: missing" in refused(published)
    assert integrity.verified(published / "weights.pth")  # of another program


def test_nothing_is_left_of_a_failed_write(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), integrity.durable_file(tmp_path / "a") as file:
        file.write(b"new")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), integrity.summed_file(tmp_path / "b") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_all_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Every file and every folder is synchronised, then renamed, then the folder above."""
    import os

    steps = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append(f"to {b}"), replace(a, b)))
    partial = tmp_path / "p"
    (partial / "below").mkdir(parents=True)
    (partial / "below" / "file").write_text("x")
    integrity.publish(partial, tmp_path / "out")
    last = steps.index(f"to {tmp_path / 'out'}")
    before = {str(partial), str(partial / "below"), str(partial / "below/file")}
    assert before | {str(partial / "SHA256SUMS")} <= set(steps[:last])
    assert steps[last + 1 :] == [str(tmp_path)]


def test_a_folder_that_cannot_be_copied_is_one_line(published, tmp_path, monkeypatch, capsys):
    """`shutil.copytree` reports a full disk in a way of its own."""

    def full(_source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    with pytest.raises(SystemExit) as ending:
        main(lambda _: shutil.copytree(published, tmp_path / "copy", copy_function=full))([])
    said = capsys.readouterr().err
    assert ending.value.code == 2 and said.count("\n") == 1
    assert "copy/" in said and "No space left on device" in said
