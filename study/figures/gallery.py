"""Draws the pictures of figures 1, 4, 5, 7 and 8: grids of crops, heat maps, masks and boxes."""

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as MplPath
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from study.figures import style
from study.labels import NOT_RUN

DPI, COLOURS = 200, 128  # of a PNG
MAX_SIDE = 240  # of a picture in a figure as wide as a column, pixels: keeps SVG files small
MARGIN = 1.2  # side of a square crop, by the RoI's longer side
TYPE, NOTE_TYPE, SMALL_TYPE, LABEL_TYPE = 6.5, 5.8, 5.5, 4.5  # typographic points
LINE, LABEL = 0.115, 0.135  # inches: a line of text, a row's label
GAP, BETWEEN, EDGE = 0.04, 0.05, 0.02  # inches: between columns, between rows, at the sides
CHARACTERS = 25  # of the credit, an inch
_FADE = 0.72  # towards white, of what is not in the mask


@dataclass(frozen=True)
class Mark:
    """An instance on a panel: its box xywh, what is written at the box, its mask `(H, W)`.

    Filled masks are tinted and bold, others a thin line.
    """

    box: Sequence[float]
    label: str = ""
    mask: NDArray[np.bool_] | None = None
    colour: str = "black"
    filled: bool = False
    line: str = "-"  # of the box


@dataclass
class Panel:
    """One cell of a grid: a picture `(H, W, 3)` uint8, and what lies on it in its pixels."""

    picture: NDArray[np.uint8] | None = None  # None: the run was not made
    cut_out: tuple[NDArray[np.bool_], str] | None = None  # all else is faded; colour of its edge
    heat: tuple[NDArray, Sequence[float]] | None = None  # map in [0, 1] over an xywh box
    marks: list[Mark] = field(default_factory=list)
    note: str = ""
    missing: str = NOT_RUN


def square_window(box: Sequence[float]) -> tuple[int, int, int]:
    """Left, top and side in pixels of a square around an xywh box with a margin.

    It may reach beyond the image; `crop` fills that.
    """
    x, y, w, h = box
    side = max(4, round(MARGIN * max(w, h)))
    return round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side


def crop(array: NDArray, window: tuple[int, int, int], fill: int) -> NDArray:
    """The `window` of an `(H, W, …)` array, `fill` where it lies outside."""
    left, top, side = window
    below, beyond = top + side - array.shape[0], left + side - array.shape[1]
    around = [(max(0, -top), max(0, below)), (max(0, -left), max(0, beyond))]
    around += [(0, 0)] * (array.ndim - 2)
    top, left = max(0, top), max(0, left)
    return np.pad(array, around, constant_values=fill)[top : top + side, left : left + side]


def grid(
    panels: Sequence[Sequence[Panel]],
    titles: Sequence[str],
    labels: Sequence[str],
    credit: str,
    width: float = style.COLUMN,
) -> Figure:
    """A grid of panels, `width` inches wide: a row a picked RoI or image, a column a method.

    `labels` head the rows, `credit` stands below. Without any row, the figure says "not run".
    """
    rows = [list(row) for row in panels] or [[Panel() for _ in titles]]
    labels = list(labels) or [""]
    cell = (width - 2 * EDGE - GAP * (len(titles) - 1)) / len(titles)  # inches
    lefts = [EDGE + column * (cell + GAP) for column in range(len(titles))]
    credits_ = textwrap.wrap(credit, round(CHARACTERS * width))
    head = LINE * (1 + max(title.count("\n") for title in titles)) + BETWEEN / 2
    sides = [cell * max(map(_aspect, row)) for row in rows]
    notes = [max(panel.note.count("\n") + bool(panel.note) for panel in row) for row in rows]
    heights = [side + LINE * lines + BETWEEN for side, lines in zip(sides, notes, strict=True)]
    total = head + LABEL * sum(map(bool, labels)) + sum(heights) + LINE * len(credits_)
    style.use()
    figure = plt.figure(figsize=(width, total))

    def write(left: float, top: float, text: str, **look: Any) -> None:
        defaults: dict[str, Any] = {"fontsize": TYPE, "va": "top", "linespacing": 1.15}
        figure.text(left / width, 1 - top / total, text, **defaults | look)

    for left, title in zip(lefts, titles, strict=True):
        write(left + cell / 2, head - BETWEEN / 2, title, ha="center", va="bottom")
    top = head
    for row, label, side, height in zip(rows, labels, sides, heights, strict=True):
        write(EDGE, top, label)
        top += LABEL * bool(label)
        for left, panel in zip(lefts, row, strict=True):
            corner = left / width, 1 - (top + side) / total
            axis = figure.add_axes((*corner, cell / width, side / total))
            draw(panel, axis, round(MAX_SIDE * width / style.COLUMN))
        top += height
    write(EDGE, top, "\n".join(credits_), fontsize=SMALL_TYPE)
    return figure


def _aspect(panel: Panel) -> float:
    """Height by width of its picture."""
    return 1.0 if panel.picture is None else panel.picture.shape[0] / panel.picture.shape[1]


def draw(panel: Panel, axis: Axes, most: int = MAX_SIDE) -> None:
    """One panel on its axes, whose shape stays; its picture has `most` pixels a side."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_xlabel(panel.note, fontsize=NOTE_TYPE, labelpad=1, linespacing=1.1)
    if panel.picture is None:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, panel.missing, fontsize=TYPE, **middle)
        axis.set_facecolor("#f0f0f0")
        return
    height, width = panel.picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    picture = Image.fromarray(_tinted(panel.picture, panel))
    picture.thumbnail((most, most), Image.Resampling.BILINEAR, reducing_gap=None)
    axis.imshow(picture, extent=extent, interpolation="none")
    if panel.heat:
        values, (x, y, w, h) = panel.heat
        axis.imshow(
            values, cmap="magma", vmin=0, vmax=1, alpha=0.75, interpolation="none",
            extent=(x - 0.5, x + w - 0.5, y + h - 0.5, y - 0.5),
        )  # fmt: skip
    axis.set(xlim=extent[:2], ylim=extent[2:])
    if panel.cut_out:
        _edge(axis, *panel.cut_out, 1.2)
    for mark in panel.marks:
        if mark.mask is not None:
            _edge(axis, mark.mask, mark.colour, 1.0 if mark.filled else 0.6)
        (x, y, w, h), thin = mark.box, 0.5 if mark.mask is not None else 0.8
        look: dict[str, Any] = {"edgecolor": mark.colour, "linewidth": thin, "linestyle": mark.line}
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, **look))
    _write_labels(axis, panel.marks)


def _write_labels(axis: Axes, marks: Sequence[Mark]) -> None:
    """Each label in or at that corner of its box where it covers least of the labels before."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    pixel = (right - left) / axis.bbox.width
    taken: list[Bbox] = []
    for mark in (mark for mark in marks if mark.label):
        ground = {"facecolor": mark.colour if mark.filled else "white", "alpha": 0.7, "lw": 0}
        text = axis.text(0, 0, mark.label, fontsize=LABEL_TYPE, bbox=ground | {"pad": 0.5})
        width, height = pixel * np.array(text.get_window_extent().size)
        x, y, w, h = mark.box
        lows, sides = (y - height, y, y + h - height, y + h), (x, x + w - width)
        places = [
            Bbox.from_bounds(max(left, min(x0, right - width)), max(top, min(y0, bottom - height)),
                             width, height)
            for y0, x0 in product(lows, sides)
        ]  # fmt: skip
        place = min(places, key=lambda one: sum(_shared(one, other) for other in taken))
        taken.append(place)
        text.set(position=(place.x0, place.y1), va="bottom")


def _shared(one: Bbox, other: Bbox) -> float:
    """The area that both cover."""
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0


def _tinted(original: NDArray[np.uint8], panel: Panel) -> NDArray[np.uint8]:
    """The picture with what lies outside a cut-out faded, and filled masks tinted.

    Whole images lose their lowest three bits, which nobody sees and which double an SVG's size.
    """
    picture = original.astype(np.float32)
    if panel.cut_out:
        outside = ~panel.cut_out[0]
        picture[outside] += _FADE * (255 - picture[outside])
    whole = any(mark.label for mark in panel.marks)
    if whole:
        picture += 0.4 * (255 - picture)
    for mark in panel.marks:
        if mark.filled:
            colour = 255 * np.array(to_rgb(mark.colour))
            picture[mark.mask] += 0.55 * (colour - picture[mark.mask])
    return picture.astype(np.uint8) | np.uint8(7 if whole else 0)


def _edge(axis: Axes, mask: NDArray[np.bool_], colour: str, width: float) -> None:
    """The mask's outline, along the picture's border too; a third of the corners is plenty."""
    y, x = (np.arange(-1, length + 1) for length in mask.shape)
    lines = contour_generator(x, y, np.pad(mask, 1).astype(float)).lines(0.5)
    corners = [cv2.approxPolyDP(np.asarray(line, np.float32), 0.5, True)[:, 0] for line in lines]
    paths = [MplPath(np.vstack([line, line[:1]]), closed=True) for line in corners]
    if paths:
        path = MplPath.make_compound_path(*paths)
        axis.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=width))


def save_picture(figure: Figure, folders: Sequence[Path], name: str) -> None:
    """Write `name.png` and `name.svg` into each of `folders`, and close the figure."""
    style.save(figure, folders[0], name, DPI, COLOURS)
    for folder in folders[1:]:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            shutil.copyfile(folders[0] / f"{name}.{suffix}", folder / f"{name}.{suffix}")
