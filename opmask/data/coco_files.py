"""The official COCO 2017 layout: what a folder holds of it, what it lacks, where to get that."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from opmask.errors import UserError

ADDRESS = "http://images.cocodataset.org"
_BLOCK = 2**22  # bytes


@dataclass(frozen=True)
class File:
    """A file as published: where it lies below the data root, or below ADDRESS."""

    path: str
    size: int  # bytes
    checksum: str = ""  # ALGORITHM:HEXADECIMAL; "" if not known


@dataclass(frozen=True)
class Archive:
    """A zip file of the official distribution, unpacked in the data root."""

    zip: File
    files: tuple[File, ...] = ()  # annotation files that it brings
    folder: str = ""  # image folder that it brings
    images: int = 0  # .jpg files in that folder

    @property
    def address(self) -> str:
        return f"{ADDRESS}/{self.zip.path}"


@dataclass(frozen=True)
class Item:
    """What is to be said of one file or folder."""

    name: str
    state: str  # complete | missing | incomplete | differs | not needed
    size: str  # as found or, if it is missing, as published
    checksum: str
    archive: Archive  # that brings it


def _archive(zip: dict[str, Any], files: Sequence[dict[str, Any]] = (), **folder: Any) -> Archive:
    return Archive(File(**zip), tuple(File(**file) for file in files), **folder)


_PUBLISHED = Path(__file__).with_name("coco2017.yaml").read_text(encoding="utf-8")
ARCHIVES = tuple(_archive(**archive) for archive in yaml.safe_load(_PUBLISHED))


def readable(size: int) -> str:
    """Bytes as a person says them: `253 MB`, `19.3 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def missing(root: Path, archives: Sequence[Archive] = ARCHIVES) -> list[str]:
    """What `root` lacks of COCO 2017, one line an item with its size and address; [] if complete.

    Images are counted, not opened: `opmask.data.coco.check` does that.
    """
    if not root.is_dir():
        return [f"{root}: no such folder"]
    lacks = []
    for item in inventory(root, archives, checksums=False):
        if item.state in ("missing", "incomplete"):
            held = f"{item.size}; " if item.name.endswith("/") else ""
            source = f"{item.archive.address} ({readable(item.archive.zip.size)})"
            lacks.append(f"{root / item.name}: {held}unpack {source} in {root}")
    return lacks


def inventory(
    root: Path, archives: Sequence[Archive] = ARCHIVES, *, checksums: bool = True
) -> Iterator[Item]:
    """Every file and folder of COCO 2017, as found in `root`.

    checksums: read the files that are there, 19 GB if the archives still are, and compare them with
    what is published; without, only sizes are compared. Images are counted.
    """
    for archive in archives:
        for file in archive.files:
            yield _describe(root / file.path, file.path, file, archive, checksums)
        if archive.folder:
            yield _count(root, archive)
        name = Path(archive.zip.path).name
        if (root / name).is_file():
            yield _describe(root / name, name, archive.zip, archive, checksums)
        else:  # one may remove it once it is unpacked
            size, checksum = f"{archive.zip.size:,} bytes", archive.zip.checksum
            yield Item(name, "not needed", size, checksum, archive)


def _describe(path: Path, name: str, expected: File, archive: Archive, checksums: bool) -> Item:
    if not path.is_file():
        return Item(name, "missing", f"{expected.size:,} bytes", expected.checksum, archive)
    size, checksum = path.stat().st_size, ""
    state = "complete" if size == expected.size else "differs"
    if checksums:
        algorithm = expected.checksum.partition(":")[0] or "md5"
        checksum = f"{algorithm}:{digest(path, algorithm)}"
        state = "differs" if expected.checksum not in ("", checksum) else state
    return Item(name, state, f"{size:,} bytes", checksum or "not read", archive)


def _count(root: Path, archive: Archive) -> Item:
    count = _count_images(root / archive.folder)
    state = "complete" if count >= archive.images else "incomplete" if count else "missing"
    return Item(f"{archive.folder}/", state, f"{count:,} of {archive.images:,} images", "", archive)


def digest(path: Path, algorithm: str) -> str:
    """A file's digest in hexadecimal, with a progress bar for large ones."""
    result, size = hashlib.new(algorithm), path.stat().st_size
    quiet = True if size < 10**8 else None  # None: shown on a terminal only
    with (
        path.open("rb") as file,
        tqdm(desc=f"{path.name}: {algorithm}", total=size, unit="B", unit_scale=True, disable=quiet)
        as bar,
    ):  # fmt: skip
        while block := file.read(_BLOCK):
            result.update(block)
            bar.update(len(block))
    return result.hexdigest()


def _count_images(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(".jpg") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
