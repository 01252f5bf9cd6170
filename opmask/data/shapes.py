"""The shapes of a COCO annotation: box, polygons and RLE, and what can be wrong with them.

*Degenerate* shapes occur in real data and are left out, as detectron2 does: a box without area or
outside its image, a polygon of fewer than three points. Others are malformed, among them those on
which pycocotools would run out of memory or overflow: it draws an outline step by step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Segmentation = list[list[float]] | dict[str, Any]

# Coordinates in pixels, and how long the outline of a polygon may be. Both also in units of the
# image's longer side, which training scales to some 1000 pixels, and the outline in units of its
# box's shorter side, which it scales to some 30.
FARTHEST = 1_000_000
FARTHEST_IN_IMAGES = 1_000
LONGEST_IN_BOXES = 100_000
_RLE_DIGITS = 6  # of 5 bits: enough for any run of an image that is read, and for pycocotools' int


def is_degenerate_box(box: list[float], width: int, height: int) -> bool:
    """Whether an xywh box in pixels has no area or lies wholly outside a width × height image."""
    x, y, w, h = box
    return w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0


def is_degenerate_polygon(polygon: list[float]) -> bool:
    """Whether [x0, y0, x1, y1, …] is no polygon: fewer than three points, or an odd length."""
    return len(polygon) < 6 or len(polygon) % 2 == 1


def has_degenerate_polygon(annotation: Mapping[str, Any]) -> bool:
    """Whether any polygon of the annotation's segmentation is degenerate."""
    mask = annotation.get("segmentation")
    return isinstance(mask, list) and any(map(is_degenerate_polygon, mask))


def usable_mask(annotation: Mapping[str, Any]) -> Segmentation | None:
    """An annotation's `segmentation` without degenerate polygons; None if nothing is left."""
    mask = annotation.get("segmentation") or None
    if isinstance(mask, list):
        return [polygon for polygon in mask if not is_degenerate_polygon(polygon)] or None
    return mask


def rle_counts(counts: str | list[int]) -> list[int]:
    """Run lengths of a COCO RLE, compressed (str) or not; ValueError if it cannot be one.

    Compressed: 5 bits a character from the lowest up, offset 48, bit 5 set if more follow, sign
    in the last; from the fourth run on the difference to the run two before (pycocotools'
    maskApi.c, rleFrString). pycocotools itself reads uninitialised memory if the runs fall short.
    """
    if not isinstance(counts, str):
        return [_run_length(run) for run in counts]
    runs: list[int] = []
    value = digits = 0
    for char in counts:
        chunk = ord(char) - 48
        if not 0 <= chunk < 64 or digits == _RLE_DIGITS:
            raise ValueError("bad character, or a number too long")
        value |= (chunk & 31) << 5 * digits
        digits += 1
        if chunk & 32:
            continue
        if chunk & 16:
            value -= 1 << 5 * digits
        runs.append(_run_length(value + runs[-2] if len(runs) > 2 else value))
        value = digits = 0
    if digits:
        raise ValueError("ends within a number")
    return runs


def shape_problems(
    annotation: Mapping[str, Any], width: int, height: int
) -> Iterator[tuple[str, bool]]:
    """(kind, whether merely degenerate) of every problem of an annotation's box and mask."""
    box, mask = annotation["bbox"], annotation.get("segmentation")
    if len(box) != 4 or not _are_finite(box) or max(map(abs, box)) > FARTHEST:
        yield f"box is not four finite numbers, none beyond ±{FARTHEST:,}", False
        return
    if is_degenerate_box(box, width, height):
        yield "box without area or outside its image", True
    if isinstance(mask, dict):
        problem = _rle_problem(mask, width, height)
        if problem:
            yield problem, False
    elif isinstance(mask, list):
        farthest = min(FARTHEST, FARTHEST_IN_IMAGES * max(width, height))
        longest = min(farthest, LONGEST_IN_BOXES * max(min(box[2:]), 0.1))
        yield from _polygon_problems(mask, farthest, longest)
    elif mask is not None:
        yield "segmentation is neither polygons nor RLE", False


def _polygon_problems(
    mask: list[Any], farthest: float, longest: float
) -> Iterator[tuple[str, bool]]:
    """As `shape_problems`: coordinates up to ±`farthest`, outlines up to `longest` pixels."""
    if not all(isinstance(polygon, list) and _are_finite(polygon) for polygon in mask):
        yield "polygon is not a list of finite numbers, as in [[x0, y0, x1, y1, …], …]", False
        return
    whole = [polygon for polygon in mask if not is_degenerate_polygon(polygon)]
    if len(whole) < len(mask):
        yield "polygon of fewer than 3 points or of odd length", True
    if any(_is_excessive(polygon, farthest, longest) for polygon in whole):
        yield "polygon far larger than its image or box; is it in pixels of this image?", False


def _is_excessive(polygon: list[float], farthest: float, longest: float) -> bool:
    reach = max(max(polygon), -min(polygon))
    if len(polygon) * reach <= longest:  # each of its len / 2 edges spans 2 * reach at most
        return False
    if reach > farthest:
        return True
    points = np.array(polygon, np.float64).reshape(-1, 2)
    outline = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    return bool(outline > longest)


def _run_length(run: Any) -> int:
    if type(run) is not int or run < 0:
        raise ValueError("run length is not a natural number")
    return run


def _are_finite(numbers: Sequence[Any]) -> bool:
    """Whether all are finite numbers; true and false are none."""
    if not {int, float}.issuperset(map(type, numbers)):
        return False
    # A sum is finite just if all its (moderate) terms are: a tenth of the time of testing each.
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:
        return False


def _rle_problem(mask: dict[str, Any], width: int, height: int) -> str | None:
    if mask.get("size") != [height, width]:
        return "RLE size differs from its image's [height, width]"
    if not isinstance(mask.get("counts"), str | list):
        return "RLE without counts"
    try:
        covered = sum(rle_counts(mask["counts"]))
    except ValueError:
        return "RLE with malformed counts"
    return None if covered == width * height else "RLE counts do not add up to its size"
