"""The shapes of a COCO annotation: box, polygons and RLE, and what can be wrong with them.

*Degenerate* shapes occur in real data and are left out, as detectron2 does: a box without area or
outside its image, a polygon of fewer than three points. Others are malformed, among them those on
which pycocotools would run out of memory or overflow: it draws an outline step by step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def rle_pixels(masks: Sequence[Any]) -> list[int]:
    """How many pixels each mask's runs cover, -1 where a COCO RLE's `counts` are malformed, or it
    is none. All at once: a data set has thousands."""
    counts: list[Any] = [m.get("counts") if isinstance(m, dict) else None for m in masks]
    texts = [n for n, given in enumerate(counts) if isinstance(given, str)]
    result = [_pixels(given) if isinstance(given, list) else -1 for given in counts]
    runs, lengths, sound = decode_rles([counts[n] for n in texts])
    totals = np.diff(_sums(runs)[_sums(lengths)])
    for n, total, is_sound in zip(texts, totals.tolist(), sound.tolist(), strict=True):
        result[n] = total if is_sound else -1
    return result


def decode_rles(
    texts: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The runs of compressed RLEs one after the other, how many each has, and which are sound.

    5 bits a character from the lowest up, offset 48, bit 5 set if more follow, sign in the last;
    from the fourth run on the difference to the run two before (pycocotools' maskApi.c,
    rleFrString). pycocotools itself reads uninitialised memory if the runs fall short.
    """
    plain = [text if text.isascii() else "\0" for text in texts]
    ends = np.cumsum([0, *map(len, plain)])
    chunk = np.frombuffer("".join(plain).encode("ascii"), np.uint8) - np.uint8(48)
    last = chunk & 32 == 0
    within = ends[1:][np.diff(ends) > 0] - 1
    is_cut = ~last[within]
    last[within] = True  # so that no number leaks into the next mask
    stops = np.flatnonzero(last)
    digits = np.diff(stops, prepend=-1)
    starts = stops - digits + 1
    values, longer = (chunk[starts] & 31).astype(np.int64), np.flatnonzero(digits > 1)
    for place in range(1, _RLE_DIGITS):
        values[longer] |= (chunk[starts[longer] + place] & 31).astype(np.int64) << 5 * place
        longer = longer[digits[longer] > place + 1]
    values -= (chunk[stops] & 16 != 0) * (np.int64(1) << 5 * np.minimum(digits, _RLE_DIGITS))
    first = np.searchsorted(stops, ends)  # run of each mask
    runs = _undo_differences(values, np.diff(first))
    sound = np.ones(len(texts), bool)
    sound[np.flatnonzero(np.diff(ends))[is_cut]] = False
    sound[np.searchsorted(ends, np.flatnonzero(chunk >= 64), side="right") - 1] = False
    wrong = np.flatnonzero((runs < 0) | (digits > _RLE_DIGITS))
    sound[np.searchsorted(first, wrong, side="right") - 1] = False
    return runs, np.diff(first), sound


def _undo_differences(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each mask's runs, of which the fourth and later are given less the run two before."""
    rows = _sums((lengths + 1) // 2)  # of two runs, so that differences are between rows
    index = np.arange(len(values)) + np.repeat(2 * rows[:-1] - _sums(lengths)[:-1], lengths)
    table = np.zeros((rows[-1], 2), np.int64)
    table.reshape(-1)[index] = values
    first = rows[:-1][lengths > 0]
    alone = table[first, 0]  # of the third run nothing is taken
    table[first, 0] = 0
    before = np.concatenate([np.zeros((1, 2), np.int64), table.cumsum(axis=0)])
    table = before[1:] - np.repeat(before[rows[:-1]], np.diff(rows), axis=0)
    table[first, 0] = alone
    return table.reshape(-1)[index]


def _sums(numbers: NDArray) -> NDArray[np.int64]:
    """Sums of the first 0, 1, … numbers."""
    return np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])


def _pixels(runs: list[Any]) -> int:
    sound = all(type(run) is int and run >= 0 for run in runs)
    return sum(runs) if sound else -1


def shape_problems(
    annotation: Mapping[str, Any], width: int, height: int, pixels: int
) -> Iterator[tuple[str, bool]]:
    """(kind, whether merely degenerate) of every problem of an annotation's box and mask.

    pixels: of its mask, by `rle_pixels`.
    """
    box, mask = annotation["bbox"], annotation.get("segmentation")
    if len(box) != 4 or not _are_finite(box) or max(map(abs, box)) > FARTHEST:
        yield f"box is not four finite numbers, none beyond ±{FARTHEST:,}", False
        return
    if is_degenerate_box(box, width, height):
        yield "box without area or outside its image", True
    if isinstance(mask, dict):
        problem = _rle_problem(mask, width, height, pixels)
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


def _are_finite(numbers: Sequence[Any]) -> bool:
    """Whether all are finite numbers; true and false are none."""
    if not {int, float}.issuperset(map(type, numbers)):
        return False
    # A sum is finite just if all its (moderate) terms are: a tenth of the time of testing each.
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:
        return False


def _rle_problem(mask: dict[str, Any], width: int, height: int, pixels: int) -> str | None:
    if mask.get("size") != [height, width]:
        return "RLE size differs from its image's [height, width]"
    if not isinstance(mask.get("counts"), str | list):
        return "RLE without counts"
    if pixels < 0:
        return "RLE with malformed counts"
    return None if pixels == width * height else "RLE counts do not add up to its size"
