"""The official COCO 2017 layout: what a folder still lacks, and where to get it."""

import os
from dataclasses import dataclass
from pathlib import Path

from opmask.errors import UserError

ADDRESS = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """A zip file of the official distribution, unpacked in the data root."""

    path: str  # below ADDRESS
    size: str  # of the download
    files: tuple[str, ...] = ()  # annotation files that it brings, relative to the root
    folder: str = ""  # image folder that it brings
    images: int = 0  # .jpg files in that folder


ARCHIVES = (
    Archive(
        "annotations/annotations_trainval2017.zip",
        "241 MB",
        files=("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    ),
    Archive("zips/train2017.zip", "18 GB", folder="train2017", images=118_287),
    Archive("zips/val2017.zip", "1 GB", folder="val2017", images=5_000),
)


def missing(root: Path, archives: tuple[Archive, ...] = ARCHIVES) -> list[str]:
    """What `root` lacks of COCO 2017, one line an item with its size and address; [] if complete.

    Images are counted, not opened: `opmask.data.coco.check` does that.
    """
    if not root.is_dir():
        return [f"{root}: no such folder"]
    lacks = []
    for archive in archives:
        source = f"unpack {ADDRESS}/{archive.path} ({archive.size}) in {root}"
        lacks += [f"{root / f}: {source}" for f in archive.files if not (root / f).is_file()]
        count = _count_images(root / archive.folder) if archive.folder else 0
        if count < archive.images:
            held = f"{count:,} of {archive.images:,} images"
            lacks.append(f"{root / archive.folder}: {held}; {source}")
    return lacks


def _count_images(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.name.endswith(".jpg") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
