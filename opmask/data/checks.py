"""The data contract: a COCO instances json plus a folder of images, and its checks.

The json holds `images`, `annotations` and `categories`. An annotation has a box; its
`segmentation` (polygons or RLE) may be absent, which is what partially supervised data looks
like. Real data contains a few *degenerate* shapes (a box without area or outside its image, a
polygon of fewer than three points). They are left out of training and evaluation
(`opmask.data.cleaning`); the check reports them, or only counts them where the user says
`on_degenerate: skip`, as for official COCO.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from opmask.data.cleaning import sizes_of
from opmask.data.images import MAX_PIXELS, UnusableImage, upright_size
from opmask.data.records import FIELDS, Record, wrong_field
from opmask.data.shapes import (
    has_degenerate_polygon,
    is_degenerate_box,
    rle_pixels,
    shape_problems,
    usable_mask,
)
from opmask.data.streaming import read_blocks, read_lists
from opmask.errors import UserError

# What the evaluator needs of every object beside its box.
GROUND_TRUTH = ("segmentation", "area", "iscrowd")
MAX_AREA = 1e10  # pixels: COCOeval counts nothing larger
_SHOWN = 200  # characters of a name or a value in a message


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
    warnings: tuple[str, ...] = ()  # what can be used but looks wrong


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
            shown = ", ".join(_shortened(place, 3 * _SHOWN) for place in places[: self.shown])
            parts.append(f"{kind}: {shown}{tail}")
        if parts:
            raise UserError(f"{self.file}: {'; '.join(parts)}")


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
    needs = GROUND_TRUTH if for_evaluation else ()
    return check_file(annotations, image_dir, images, on_degenerate, needs)


def check_file(
    file: Path,
    image_dir: Path,
    images: str,
    on_degenerate: str,
    needs: Collection[str],
    use: Callable[[list[Record], list[Record], list[Record]], None] | None = None,
) -> Summary:
    """As `check`, reading `file` in blocks.

    needs: as in `check_records`.
    use: called with all images, all categories and some annotations as long as all are sound, until
        it has had every annotation.
    """
    lists = read_lists(file, "images", "categories")
    unsound, problems = _Problems(file), _Problems(file)
    for key, records in lists.items():
        _check_fields(key, records, unsound)
    ids: set[int] = set()
    tally = None if unsound.found else Tally(**lists)
    read = 0
    for _, records in read_blocks(file, ["annotations"]):
        _check_fields("annotations", records, unsound, ids, read)
        read += len(records)
        if unsound.found or tally is None:
            continue
        _check_annotations(records, tally, problems, on_degenerate == "skip", needs)
        if not problems.found:
            tally.add(records)
            if use:
                use(lists["images"], lists["categories"], records)
    unsound.raise_if_any()
    assert tally is not None
    _check_images(lists["images"], image_dir, images, problems)
    problems.raise_if_any()
    summary = tally.summary()
    if not any(summary.instances_by_category.values()):
        raise UserError(f"{file}: annotations: no object but crowds and degenerate boxes")
    return summary


def check_records(
    data: Record, file: Path, *, on_degenerate: str = "error", needs: Collection[str] = ()
) -> None:
    """All of the contract but the image files; UserError names `file`, the records and keys.

    needs: which of GROUND_TRUTH every annotation must have.
    """
    problems = _Problems(file)
    for key in FIELDS:
        _check_fields(key, data[key], problems)
    problems.raise_if_any()
    tally = Tally(data["images"], data["categories"])
    _check_annotations(data["annotations"], tally, problems, on_degenerate == "skip", needs)
    problems.raise_if_any()


def load_categories(annotations: Path) -> list[Record]:
    """The checked category dicts of a COCO json by ascending id, their order in detectron2's
    contiguous ids; UserError as `check`."""
    (categories,), problems = read_lists(annotations, "categories").values(), _Problems(annotations)
    _check_fields("categories", categories, problems)
    problems.raise_if_any()
    return sorted(categories, key=lambda category: category["id"])


def summarize(annotations: Path) -> Summary:
    """Counts of a COCO json that `check` accepts (see Summary)."""
    tally = Tally(**read_lists(annotations, "images", "categories"))
    for _, records in read_blocks(annotations, ["annotations"]):
        tally.add(records)
    return tally.summary()


class Tally:
    """Counts checked annotations (see Summary)."""

    def __init__(self, images: Sequence[Record], categories: Sequence[Record]) -> None:
        self.sizes = sizes_of(images)
        self.instances = {category["id"]: 0 for category in categories}
        self.masks = dict(self.instances)
        self.counts: Counter[str] = Counter()

    def add(self, annotations: Iterable[Record]) -> None:
        """Count these as well."""
        found = dict.fromkeys(("all", "with_masks", "crowd", "degenerate", "leaving", "tiny"), 0)
        for annotation in annotations:
            has_mask = usable_mask(annotation) is not None
            x, y, w, h = annotation["bbox"]
            width, height = self.sizes[annotation["image_id"]]
            bad_box = is_degenerate_box(annotation["bbox"], width, height)
            is_crowd = bool(annotation.get("iscrowd") or 0)
            found["all"] += 1
            found["with_masks"] += has_mask
            found["crowd"] += is_crowd
            found["degenerate"] += bad_box or has_degenerate_polygon(annotation)
            # 1 px: rounding
            found["leaving"] += x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1
            found["tiny"] += w <= 1 and h <= 1
            if not is_crowd and not bad_box:
                self.instances[annotation["category_id"]] += 1
                self.masks[annotation["category_id"]] += has_mask
        self.counts.update(found)

    def summary(self) -> Summary:
        """Of all that were added."""
        return Summary(
            images=len(self.sizes),
            annotations=self.counts["all"],
            with_masks=self.counts["with_masks"],
            crowd=self.counts["crowd"],
            degenerate=self.counts["degenerate"],
            instances_by_category=self.instances,
            masks_by_category=self.masks,
            warnings=tuple(self._suspicions()),
        )

    def _suspicions(self) -> Iterator[str]:
        """Warnings about boxes that are well formed but, most of them, not in COCO's pixels."""
        total, leaving, tiny = (self.counts[key] for key in ("all", "leaving", "tiny"))
        form = "bbox must be [x, y, width, height] in pixels"
        if 2 * leaving > total:
            yield f"{leaving:,} of {total:,} boxes leave their image; corners, perhaps? {form}"
        if 2 * tiny > total:
            yield f"{tiny:,} of {total:,} boxes are below one pixel; normalised, perhaps? {form}"


def _check_fields(
    key: str,
    records: list[Any],
    problems: _Problems,
    ids: set[int] | None = None,
    first: int = 0,
) -> None:
    """Required fields of one list and their types, unique ids and names, image sizes.

    ids, first: of the list's `first` records, which are checked already.
    """
    ids = set() if ids is None else ids
    by_name: dict[str, list[str]] = defaultdict(list)
    for position, record in enumerate(records, start=first):
        if wrong := wrong_field(key, record):
            problems.add(wrong, f"{key}[{position}]")
            continue
        if record["id"] in ids:
            problems.add(f"duplicate id in '{key}'", str(record["id"]))
        ids.add(record["id"])
        if key == "categories":
            by_name[record["name"]].append(str(record["id"]))
        if key == "images":
            _check_size(record, problems)
    for name, same in by_name.items():
        if len(same) > 1:
            where = f"'{_shortened(name)}' (categories {', '.join(same)})"
            problems.add("two classes of one name, rename or merge them", where)


def _check_size(image: Record, problems: _Problems) -> None:
    where = f"image {image['id']}"
    if min(image["width"], image["height"]) < 1:
        problems.add("image without width or height", where)
    elif image["width"] * image["height"] > MAX_PIXELS:
        kind = f"image of more than {MAX_PIXELS:,} pixels; scale it down or cut it into tiles"
        problems.add(kind, f"{where} ({image['width']} × {image['height']})")


def _check_annotations(
    annotations: list[Record],
    known: "Tally",
    problems: _Problems,
    skip_degenerate: bool,
    needs: Collection[str],
) -> None:
    sizes = known.sizes
    pixels = rle_pixels([annotation.get("segmentation") for annotation in annotations])
    for annotation, covered in zip(annotations, pixels, strict=True):
        where = f"annotation {annotation['id']}"
        if annotation["category_id"] not in known.instances:
            problems.add("unknown category", f"{where} (category {annotation['category_id']})")
        if annotation["image_id"] not in sizes:
            problems.add("unknown image", f"{where} (image {annotation['image_id']})")
            continue
        size, is_sound = sizes[annotation["image_id"]], True
        for kind, is_degenerate in shape_problems(annotation, *size, covered):
            is_sound &= is_degenerate
            if not (is_degenerate and skip_degenerate):
                hint = " (`on_degenerate: skip` leaves such out)" if is_degenerate else ""
                shown = f" {annotation['bbox']}" if kind.startswith("box") else ""
                problems.add(kind + hint, where + shown)
        for kind in _wrong_extras(annotation):
            problems.add(kind, where)
        if is_sound and needs and not is_degenerate_box(annotation["bbox"], *size):
            for kind in _lacking(annotation, needs):
                problems.add(kind, where)


def _wrong_extras(annotation: Record) -> Iterator[str]:
    """What is wrong with the optional `area` and `iscrowd`; null counts as absent."""
    area, iscrowd = annotation.get("area"), annotation.get("iscrowd")
    if area is not None and not (type(area) in (int, float) and 0 <= area <= MAX_AREA):
        yield f"'area' is not the mask's number of pixels, from 0 to {MAX_AREA:,.0f}"
    if iscrowd is not None and not (isinstance(iscrowd, int | float) and iscrowd in (0, 1)):
        yield "'iscrowd' is neither 0 nor 1"


def _lacking(annotation: Record, needs: Collection[str]) -> Iterator[str]:
    for key in needs:
        value = usable_mask(annotation) if key == "segmentation" else annotation.get(key)
        if value is None:
            what = "mask" if key == "segmentation" else f"'{key}'"
            yield f"no {what}, which evaluation needs"


def _shortened(text: str, limit: int = _SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


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
    where = f"{_shortened(str(path))} (image {image['id']})"
    try:
        if not path.is_file():
            return "image missing", where
        size = upright_size(path, decode=mode == "decode") if mode != "exist" else None
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return "image missing", f"{where}: {error.strerror}"
    except UnusableImage as error:
        return "image unreadable", f"{where}: {_shortened(str(error))}"
    expected = (image["width"], image["height"])
    if size not in (None, expected):
        shown = "is {}×{}, annotated as {}×{}".format(*size, *expected)
        return "image of another size than annotated", f"{where} {shown}"
    return None
