"""A set's objects in files that all processes of a machine map into memory, later ones too.

As Python objects COCO's take gigabytes in each rank, and half a minute of parsing at each start.
Here they stay JSON: an object a text, found by its place; what processes share is read only.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import orjson
from filelock import FileLock
from numpy.typing import NDArray

from opmask.data.cleaning import clean_object
from opmask.data.records import Record
from opmask.data.streaming import read_blocks
from opmask.errors import UserError
from opmask.integrity import empty_folder, publish, sha256

NO_MASK, POLYGONS, RLE = range(3)
_PLACE: list[tuple[str, str]] = [("start", "i8"), ("stop", "i8")]  # bytes of the text
# `first` to `last` - 1 are an image's objects.
_IMAGE = np.dtype([(n, "i8") for n in ("id", "width", "height", "first", "last")] + _PLACE)
_OBJECT = np.dtype([("category", "i4"), ("crowd", "?"), ("mask", "u1"), *_PLACE])
_READ = np.dtype(
    [(n, "i8") for n in ("image", "category", "crowd", "mask", "size")] + [("box", "f8", 4)]
)
_TEXT = ("bbox", "category_id", "iscrowd", "segmentation")  # of an object
_CODE = ("shared", "streaming", "records", "cleaning", "shapes")  # whose edits make other files


@dataclass(frozen=True)
class SharedSet:
    """The cleaned objects of a COCO json (`opmask.data.cleaning`), read only."""

    categories: list[Record]  # by ascending id
    images: NDArray[Any]  # _IMAGE, by ascending id; those with an object that is no crowd
    objects: NDArray[Any]  # _OBJECT, by image; category: the position in `categories`
    text: NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `write_set` left; OSError if it is not there."""
        images, objects = (np.load(folder / f"{name}.npy", "r") for name in ("images", "objects"))
        categories = json.loads((folder / "categories.json").read_bytes())
        return cls(categories, images, objects, np.memmap(folder / "text", mode="r"))

    def file_name(self, image: int) -> str:
        """Of the image at this position."""
        return self._text(self.images[image]).decode()

    def of_image(self, image: int) -> list[Record]:
        """Fresh records of its objects: bbox, category_id, iscrowd and, if given, segmentation."""
        found = self.objects[self.images["first"][image] : self.images["last"][image]]
        return orjson.loads(b"[%b]" % b",".join(map(self._text, found)))

    def _text(self, record: Any) -> bytes:
        return self.text[record["start"] : record["stop"]].tobytes()


def read_set(annotations: Path, cache: Path | None) -> SharedSet:
    """The objects of a COCO json that `opmask.data.coco.check` accepts.

    cache: a folder in which they are left by the file's content; None, or one that cannot be
        written: nothing is kept, and nothing shared but with children.

    Raises:
        UserError: the file cannot be read, or an object's image is not in it;
        OverflowError: an id is beyond 64 bits, which stage `data` gives another.
    """
    if cache is not None:
        try:
            return SharedSet.load(_cached(annotations, cache))
        except OSError:
            pass
    with TemporaryDirectory() as folder:  # what is mapped outlives its name
        write_set(annotations, Path(folder))
        return SharedSet.load(Path(folder))


def _cached(annotations: Path, cache: Path) -> Path:
    code = (Path(__file__).with_name(f"{name}.py").read_bytes() for name in _CODE)
    content = hashlib.sha256(b"".join([*code, sha256(annotations).encode()]))
    folder = cache / content.hexdigest()[:32]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # the first one parses, others wait
            if not folder.is_dir():
                partial = empty_folder(folder.with_suffix(".partial"))
                write_set(annotations, partial)
                publish(partial, folder)
    return folder


def write_set(annotations: Path, folder: Path) -> None:
    """Write what `SharedSet.load` reads into `folder`, which is empty; UserError as `read_set`."""
    lists: dict[str, list[Record]] = {"images": [], "categories": []}
    parts = [np.zeros(0, _READ)]
    with (folder / "text").open("wb") as text:
        for key, records in read_blocks(annotations):
            if key == "annotations":
                parts.append(_write_block(records, text))
            else:
                kept = ("id", "file_name", "width", "height", "name")
                lists[key] += [{n: record[n] for n in kept if n in record} for record in records]
        images, categories = (sorted(found, key=lambda r: r["id"]) for found in lists.values())
        names = [image["file_name"].encode() for image in images]
        text.write(b"".join(names))
    read = np.concatenate(parts)
    table = _images(images, names, int(read["size"].sum()))
    if not np.isin(read["image"], table["id"]).all():
        raise UserError(f"{annotations}: has an annotation of an unknown image")
    image, objects = np.searchsorted(table["id"], read["image"]), _objects(read, categories)
    sound = _has_area(read["box"], table[image])
    image, objects = image[sound], objects[sound]
    order = np.argsort(image, kind="stable")
    table["first"] = np.searchsorted(image[order], np.arange(len(table)))
    table["last"] = np.searchsorted(image[order], np.arange(len(table)), "right")
    used = np.bincount(image[~objects["crowd"]], minlength=len(table)) > 0
    np.save(folder / "images.npy", table[used])
    np.save(folder / "objects.npy", objects[order])
    (folder / "categories.json").write_text(json.dumps(categories))


def _images(images: Sequence[Record], names: Sequence[bytes], start: int) -> NDArray[Any]:
    """_IMAGE of all, whose names lie in the text from `start`; their objects are not known yet."""
    table = np.zeros(len(images), _IMAGE)
    for key in ("id", "width", "height"):
        table[key] = [image[key] for image in images]
    size = np.array([len(name) for name in names], np.int64)
    table["stop"] = start + np.cumsum(size)
    table["start"] = table["stop"] - size
    return table


def _objects(read: NDArray[Any], categories: Sequence[Record]) -> NDArray[Any]:
    """_OBJECT of all, in the order of the text."""
    objects = np.zeros(len(read), _OBJECT)
    objects["category"] = np.searchsorted([c["id"] for c in categories], read["category"])
    objects["crowd"], objects["mask"] = read["crowd"], read["mask"]
    objects["stop"] = np.cumsum(read["size"])
    objects["start"] = objects["stop"] - read["size"]
    return objects


def _write_block(records: list[Record], file: Any) -> NDArray[Any]:
    rows = []
    for record in map(clean_object, records):
        text = orjson.dumps({name: record[name] for name in _TEXT if name in record})
        file.write(text)
        box, crowd, mask = tuple(record["bbox"]), record["iscrowd"], _kind(record)
        rows.append((record["image_id"], record["category_id"], crowd, mask, len(text), box))
    return np.array(rows, _READ)


def _kind(record: Mapping[str, Any]) -> int:
    if "segmentation" not in record:
        return NO_MASK
    return POLYGONS if isinstance(record["segmentation"], list) else RLE


def _has_area(boxes: NDArray[np.float64], images: NDArray[Any]) -> NDArray[np.bool_]:
    """Of all boxes what `opmask.data.shapes.is_degenerate_box` denies of one."""
    x, y, w, h = boxes.T
    within = (x < images["width"]) & (y < images["height"]) & (x + w > 0) & (y + h > 0)
    return (w > 0) & (h > 0) & within
