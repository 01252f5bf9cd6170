"""The data contract: a COCO instances json plus a folder of images, and its checks.

The json holds `images`, `annotations` and `categories`. An annotation has a box; its
`segmentation` (polygons or RLE) may be absent, which is what partially supervised data looks
like. Real data contains a few *degenerate* shapes (a box without area or outside its image, a
polygon of fewer than three points). Training leaves them out, as detectron2 does; the check
reports them, or only counts them where the user says `on_degenerate: skip`, as for official COCO.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from tqdm import tqdm

from opmask.data.shapes import (
    has_degenerate_polygon,
    is_degenerate_box,
    shape_problems,
    usable_mask,
)
from opmask.errors import UserError

Record = dict[str, Any]

# What a record of each list must have, with the JSON types allowed.
FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}
EXIF_ORIENTATION, EXIF_SWAPS_SIDES = 0x0112, 5


@dataclass(frozen=True)
class Summary:
    """What an annotation file holds."""

    images: int
    annotations: int
    with_masks: int  # annotations with a usable mask, crowds included
    crowd: int
    degenerate: int  # annotations with a degenerate box or polygon
    # By category id, without crowds and degenerate boxes: what training and evaluation see.
    instances_by_category: dict[int, int]
    masks_by_category: dict[int, int]


@dataclass
class _Problems:
    """Collects problems by kind, for one message: the first few of each kind and a count."""

    file: Path
    shown: int = 3
    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, where: str) -> None:
        self.found[kind].append(where)

    def raise_if_any(self) -> None:
        parts = []
        for kind, places in self.found.items():
            more = len(places) - self.shown
            tail = f", … and {more} more of this kind" if more > 0 else ""
            parts.append(f"{kind}: {', '.join(places[: self.shown])}{tail}")
        if parts:
            raise UserError(f"{self.file}: {'; '.join(parts)}")


def read_json(path: Path) -> Record:
    """A COCO json as a dict with the three lists; UserError if it cannot be read as one."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON, perhaps truncated ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be a JSON object with {', '.join(FIELDS)}")
    for key in FIELDS:
        if not isinstance(data.get(key), list):
            raise UserError(f"{path}: lacks the top-level list '{key}'")
    return data


def check(
    annotations: Path,
    image_dir: Path,
    *,
    images: Literal["exist", "header", "decode"] = "header",
    on_degenerate: Literal["error", "skip"] = "error",
    for_evaluation: bool = False,
) -> Summary:
    """Checks a data set against the contract; UserError in one line, or a Summary.

    images: `exist` looks for the files only, `header` also reads their size (milliseconds each at
        most), `decode` reads every pixel and so finds truncated files.
    on_degenerate: `skip` counts degenerate boxes and polygons instead of reporting them.
    for_evaluation: every annotation must have a mask, `area` and `iscrowd`, as COCOeval needs.
    """
    data = read_json(annotations)
    problems = _Problems(annotations)
    _check_records(data, problems)
    problems.raise_if_any()  # what follows relies on sound ids and sizes
    _check_annotations(data, problems, skip_degenerate=on_degenerate == "skip")
    if for_evaluation:
        _check_ground_truth(data, problems)
    problems.raise_if_any()  # before the slow part
    _check_images(data["images"], image_dir, images, problems)
    problems.raise_if_any()
    return summarize(data)


def summarize(data: Mapping[str, Any]) -> Summary:
    """Counts of a checked COCO json (see Summary)."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    instances = {category["id"]: 0 for category in data["categories"]}
    masks = dict(instances)
    with_masks = crowd = degenerate = 0
    for annotation in data["annotations"]:
        has_mask = usable_mask(annotation) is not None
        bad_box = is_degenerate_box(annotation["bbox"], *sizes[annotation["image_id"]])
        is_crowd = bool(annotation.get("iscrowd", 0))
        with_masks += has_mask
        crowd += is_crowd
        degenerate += bad_box or has_degenerate_polygon(annotation)
        if not is_crowd and not bad_box:
            instances[annotation["category_id"]] += 1
            masks[annotation["category_id"]] += has_mask
    total = len(data["annotations"])
    return Summary(len(data["images"]), total, with_masks, crowd, degenerate, instances, masks)


def _check_records(data: Record, problems: _Problems) -> None:
    """Required fields and their types, unique ids, positive image sizes."""
    for key, fields in FIELDS.items():
        seen: set[int] = set()
        for position, record in enumerate(data[key]):
            wrong = _wrong_field(record, fields)
            if wrong:
                problems.add(f"'{wrong}' missing or of the wrong type", f"{key}[{position}]")
                continue
            if record["id"] in seen:
                problems.add(f"duplicate id in '{key}'", str(record["id"]))
            seen.add(record["id"])
            if key == "images" and min(record["width"], record["height"]) < 1:
                problems.add("image without width or height", f"image {record['id']}")


def _wrong_field(record: Any, fields: dict[str, type]) -> str | None:
    if not isinstance(record, dict):
        return "record"
    return next((n for n, kind in fields.items() if not isinstance(record.get(n), kind)), None)


def _check_annotations(data: Record, problems: _Problems, *, skip_degenerate: bool) -> None:
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    categories = {category["id"] for category in data["categories"]}
    for annotation in data["annotations"]:
        where = f"annotation {annotation['id']}"
        if annotation["category_id"] not in categories:
            problems.add("unknown category", f"{where} (category {annotation['category_id']})")
        if annotation["image_id"] not in sizes:
            problems.add("unknown image", f"{where} (image {annotation['image_id']})")
            continue
        size = sizes[annotation["image_id"]]
        for kind, is_degenerate in shape_problems(annotation, *size):
            if not (is_degenerate and skip_degenerate):
                hint = " (`on_degenerate: skip` leaves such out)" if is_degenerate else ""
                shown = f" {annotation['bbox']}" if kind.startswith("box") else ""
                problems.add(kind + hint, where + shown)


def _check_ground_truth(data: Record, problems: _Problems) -> None:
    for annotation in data["annotations"]:
        where = f"annotation {annotation['id']}"
        if usable_mask(annotation) is None:
            problems.add("no mask, which evaluation needs", where)
        for key in ("area", "iscrowd"):
            if not isinstance(annotation.get(key), int | float):
                problems.add(f"no '{key}', which evaluation needs", where)


def _check_images(images: list[Record], folder: Path, mode: str, problems: _Problems) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder (for {problems.file})")
    probe: Callable[[Record], tuple[str, str] | None] = partial(_image_problem, folder, mode)
    with ThreadPoolExecutor(8) as pool:  # hides the latency of network storage
        found = pool.map(probe, images)
        for problem in tqdm(found, f"{folder.name}: {mode}", len(images), disable=None):
            if problem:
                problems.add(*problem)


def _image_problem(folder: Path, mode: str, image: Record) -> tuple[str, str] | None:
    path = folder / image["file_name"]
    where = f"{path} (image {image['id']})"
    if not path.is_file():
        return "image missing", where
    if mode == "exist":
        return None
    try:
        size = _image_size(path, decode=mode == "decode")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "image unreadable", where
    expected = (image["width"], image["height"])
    if size != expected:
        shown = "is {}×{}, annotated as {}×{}".format(*size, *expected)
        return "image of another size than annotated", f"{where} {shown}"
    return None


def _image_size(path: Path, *, decode: bool) -> tuple[int, int]:
    """(width, height) as detectron2 will see it, that is after its EXIF rotation."""
    with Image.open(path) as image:
        if decode:
            image.load()
        width, height = image.size
        # Only a JPEG has it in the header: asking a PNG for it would decode the pixels.
        turned = image.format == "JPEG" and image.getexif().get(EXIF_ORIENTATION, 1)
        return (height, width) if turned >= EXIF_SWAPS_SIDES else (width, height)
