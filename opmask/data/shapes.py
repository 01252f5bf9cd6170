"""The shapes of a COCO annotation: box, polygons and RLE, and what can be wrong with them.

*Degenerate* shapes occur in real data and are left out of training, as detectron2 does: a box
without area or outside its image, a polygon of fewer than three points. Others are malformed.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Segmentation = list[list[float]] | dict[str, Any]


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
    value = shift = 0
    for char in counts:
        chunk = ord(char) - 48
        if not 0 <= chunk < 64:
            raise ValueError("bad character")
        value |= (chunk & 31) << shift
        shift += 5
        if chunk & 32:
            continue
        if chunk & 16:
            value -= 1 << shift
        runs.append(_run_length(value + runs[-2] if len(runs) > 2 else value))
        value = shift = 0
    if shift:
        raise ValueError("ends within a number")
    return runs


def shape_problems(
    annotation: Mapping[str, Any], width: int, height: int
) -> Iterator[tuple[str, bool]]:
    """(kind, whether merely degenerate) of every problem of an annotation's box and mask."""
    box, mask = annotation["bbox"], annotation.get("segmentation")
    if len(box) != 4 or not _is_finite(box):
        yield "box is not four finite numbers", False
    elif is_degenerate_box(box, width, height):
        yield "box without area or outside its image", True
    if isinstance(mask, dict):
        problem = _rle_problem(mask, width, height)
        if problem:
            yield problem, False
    elif isinstance(mask, list):
        if not all(isinstance(polygon, list) and _is_finite(polygon) for polygon in mask):
            yield "polygon is not a list of finite numbers", False
        elif any(map(is_degenerate_polygon, mask)):
            yield "polygon of fewer than 3 points or of odd length", True
    elif mask is not None:
        yield "segmentation is neither polygons nor RLE", False


def _run_length(run: int) -> int:
    if not isinstance(run, int) or run < 0:
        raise ValueError("run length is not a natural number")
    return run


def _is_finite(numbers: list[float]) -> bool:
    # A sum is finite just if all its (moderate) terms are: a tenth of the time of testing each.
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
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
