"""The one view of a data set's objects that training, evaluation and analysis share.

What a json holds beyond the data contract is dropped, and with it whatever a strict parser would
refuse; so are degenerate boxes and polygons. Shapes and numbers stay exactly as they are.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from opmask.data.records import FIELDS, Record
from opmask.data.shapes import Segmentation, is_degenerate_box, usable_mask
from opmask.integrity import durable_file

_MAX_ID = 2**53  # up to which a double, and so every table, holds whole numbers exactly


def clean(data: Mapping[str, Any]) -> Record:
    """The contract's part of a checked COCO json, without degenerate shapes.

    images: id, file_name, width, height. categories: id, name. annotations: id, image_id,
    category_id, bbox, iscrowd (0 or 1) and, if given, area and segmentation: polygons of three
    points or more each, or an RLE with size and counts.
    """
    lists = {k: [_pick(r, FIELDS[k]) for r in data[k]] for k in ("images", "categories")}
    return {**lists, "annotations": clean_objects(data["annotations"], sizes_of(data["images"]))}


def sizes_of(images: Iterable[Mapping[str, Any]]) -> dict[int, tuple[int, int]]:
    """(width, height) of checked images by id."""
    return {image["id"]: (image["width"], image["height"]) for image in images}


def clean_objects(
    annotations: Iterable[Mapping[str, Any]], sizes: Mapping[int, tuple[int, int]]
) -> list[Record]:
    """`clean` of some annotations; sizes: `sizes_of` all images."""
    return [
        clean_object(annotation)
        for annotation in annotations
        if not is_degenerate_box(annotation["bbox"], *sizes[annotation["image_id"]])
    ]


def renumber(data: Record) -> Record:
    """A cleaned json with ids that every later stage can hold, in the same order.

    A list of which an id is beyond 53 bits or, but of categories, negative gets 1 … N by rank.
    """
    new = {key: new_ids([record["id"] for record in data[key]], key) for key in FIELDS}
    return {key: with_ids(data[key], key, new) for key in FIELDS}


def with_ids(records: Iterable[Record], key: str, new: Mapping[str, Mapping[int, int]]) -> list:
    """Records of the list `key` with other ids, its own and those that it refers to.

    new: `new_ids` by list.
    """
    names = {"id": key}
    if key == "annotations":
        names |= {"image_id": "images", "category_id": "categories"}
    ids = [(name, new[other]) for name, other in names.items() if other in new]
    return [{**record, **{name: to[record[name]] for name, to in ids}} for record in records]


@contextmanager
def writer(path: Path) -> Iterator[Callable[[str, Iterable[Record]], None]]:
    """A cleaned json, a record a line, whole or not at all.

    Gives what adds records to one of its three lists: all of one, then all of the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun: dict[str, int] = {}
    with durable_file(path) as file:

        def add(key: str, records: Iterable[Record]) -> None:
            if key not in begun:
                file.write(b'%b\n"%b": [' % (b"\n]," if begun else b"{", key.encode()))
            for record in records:
                file.write((b",\n" if begun.get(key) else b"\n") + orjson.dumps(record))
                begun[key] = 1
            begun.setdefault(key, 0)

        yield add
        file.write(b"\n]\n}\n")


def write(data: Record, path: Path) -> None:
    """Write a cleaned json by `writer`."""
    with writer(path) as add:
        for key in FIELDS:
            add(key, data[key])


def _pick(record: Mapping[str, Any], keys: Mapping[str, Any]) -> Record:
    return {key: record[key] for key in keys}


def clean_object(annotation: Mapping[str, Any]) -> Record:
    """The contract's part of one annotation, without degenerate polygons."""
    result = _pick(annotation, FIELDS["annotations"])
    result["iscrowd"] = int(annotation.get("iscrowd") or 0)
    if annotation.get("area") is not None:
        result["area"] = annotation["area"]
    mask = usable_mask(annotation)
    if mask is not None:
        result["segmentation"] = _plain(mask)
    return result


def _plain(mask: Segmentation) -> Segmentation:
    if isinstance(mask, list):
        return mask
    return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"]}


def new_ids(ids: Collection[int], key: str) -> dict[int, int]:
    """Id to new id, of the list `key`: see `renumber`."""
    if may_stay(ids, key):
        return dict(zip(ids, ids, strict=True))
    return {number: rank for rank, number in enumerate(sorted(ids), start=1)}


def may_stay(ids: Collection[int], key: str) -> bool:
    """Whether every later stage can hold these ids of the list `key`."""
    return not ids or (min(ids) >= (-_MAX_ID if key == "categories" else 0) and max(ids) <= _MAX_ID)
