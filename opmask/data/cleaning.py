"""The one view of a data set's objects that training, evaluation and analysis share.

What a json holds beyond the data contract is dropped, and with it whatever a strict parser would
refuse; so are degenerate boxes and polygons. Shapes and numbers stay exactly as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opmask.data.records import FIELDS, Record
from opmask.data.shapes import Segmentation, is_degenerate_box, usable_mask

_MAX_ID = 2**53  # up to which a double, and so every table, holds whole numbers exactly


def clean(data: Mapping[str, Any]) -> Record:
    """The contract's part of a checked COCO json, without degenerate shapes.

    images: id, file_name, width, height. categories: id, name. annotations: id, image_id,
    category_id, bbox, iscrowd (0 or 1) and, if given, area and segmentation: polygons of three
    points or more each, or an RLE with size and counts.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    return {
        **{k: [_pick(r, FIELDS[k]) for r in data[k]] for k in ("images", "categories")},
        "annotations": [
            clean_object(annotation)
            for annotation in data["annotations"]
            if not is_degenerate_box(annotation["bbox"], *sizes[annotation["image_id"]])
        ],
    }


def renumber(data: Record) -> Record:
    """A cleaned json with ids that every later stage can hold, in the same order.

    A list of which an id is beyond 53 bits or, but of categories, negative gets 1 … N by rank.
    """
    new = {key: _new_ids(data[key], negative=key == "categories") for key in FIELDS}
    references = (("image_id", new["images"]), ("category_id", new["categories"]))
    result = {
        key: [{**record, "id": new[key][record["id"]]} for record in data[key]] for key in FIELDS
    }
    for annotation in result["annotations"]:
        annotation |= {name: ids[annotation[name]] for name, ids in references}
    return result


def write(data: Record, path: Path) -> None:
    """Write a cleaned json, a record a line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="ascii") as file:
        for position, key in enumerate(FIELDS):
            file.write(f'{"," if position else "{"}\n"{key}": [')
            for number, record in enumerate(data[key]):
                file.write(f"{',' if number else ''}\n{json.dumps(record, allow_nan=False)}")
            file.write("\n]")
        file.write("\n}\n")
    partial.replace(path)


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


def _new_ids(records: list[Record], *, negative: bool) -> dict[int, int]:
    """Id to new id."""
    ids = [record["id"] for record in records]
    lowest = -_MAX_ID if negative else 0
    if all(lowest <= number <= _MAX_ID for number in ids):
        return dict(zip(ids, ids, strict=True))
    return {number: rank for rank, number in enumerate(sorted(ids), start=1)}
