"""Draws the pictures of figures 1, 4, 5, 7 and 8: grids of crops, heat maps and masks."""

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as MplPath
from numpy.typing import NDArray
from PIL import Image

from study.figures import style
from study.labels import NOT_RUN

DPI, COLOURS = 200, 128  # of a PNG
MAX_SIDE = 240  # of an embedded picture, pixels: keeps SVG files small
MARGIN = 1.2  # side of a square crop, by the RoI's longer side
TYPE, NOTE_TYPE, SMALL_TYPE = 6.5, 5.8, 5.5  # typographic points
LINE, LABEL = 0.115, 0.135  # inches: a line of text, a row's label
GAP, BETWEEN, EDGE = 0.04, 0.05, 0.02  # inches: between columns, between rows, at the sides
CHARACTERS = 84  # of the credit, a line
_FADE = 0.72  # towards white, of what is not in the mask


@dataclass(frozen=True)
class Outline:
    """A mask `(H, W)` bool on a panel; filled ones are tinted and bold, others a thin line."""

    mask: NDArray[np.bool_]
    colour: str
    filled: bool = True


@dataclass
class Panel:
    """One cell of a grid: a picture `(H, W, 3)` uint8, and what lies on it in its pixels."""

    picture: NDArray[np.uint8] | None = None  # None: the run was not made
    cut_out: tuple[NDArray[np.bool_], str] | None = None  # all else is faded; colour of its edge
    heat: tuple[NDArray, Sequence[float]] | None = None  # map in [0, 1] over an xywh box
    outlines: list[Outline] = field(default_factory=list)
    boxes: list[tuple[Sequence[float], str]] = field(default_factory=list)  # xywh, line style
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
) -> Figure:
    """A grid of panels as wide as a column: a row a picked RoI or image, a column a method.

    `labels` head the rows, `credit` stands below. Without any row, the figure says "not run".
    """
    rows = [list(row) for row in panels] or [[Panel() for _ in titles]]
    labels = list(labels) or [""]
    cell = (style.COLUMN - 2 * EDGE - GAP * (len(titles) - 1)) / len(titles)  # inches
    lefts = [EDGE + column * (cell + GAP) for column in range(len(titles))]
    credits_ = textwrap.wrap(credit, CHARACTERS)
    head = LINE * (1 + max(title.count("\n") for title in titles)) + BETWEEN / 2
    heights = [_height(row, cell) for row in rows]
    total = head + LABEL * sum(map(bool, labels)) + sum(heights) + LINE * len(credits_)
    style.use()
    figure = plt.figure(figsize=(style.COLUMN, total))

    def write(left: float, top: float, text: str, **look: Any) -> None:
        defaults: dict[str, Any] = {"fontsize": TYPE, "va": "top", "linespacing": 1.15}
        figure.text(left / style.COLUMN, 1 - top / total, text, **defaults | look)

    for left, title in zip(lefts, titles, strict=True):
        write(left + cell / 2, head - BETWEEN / 2, title, ha="center", va="bottom")
    top = head
    for row, label, height in zip(rows, labels, heights, strict=True):
        write(EDGE, top, label)
        top += LABEL * bool(label)
        side = cell * max(map(_aspect, row))
        for left, panel in zip(lefts, row, strict=True):
            corner = left / style.COLUMN, 1 - (top + side) / total
            draw(panel, figure.add_axes((*corner, cell / style.COLUMN, side / total)))
        top += height
    write(EDGE, top, "\n".join(credits_), fontsize=SMALL_TYPE)
    return figure


def _height(row: Sequence[Panel], cell: float) -> float:
    """Of a row of panels `cell` wide, with its notes and the space to the next, in inches."""
    lines = max(panel.note.count("\n") + bool(panel.note) for panel in row)
    return cell * max(map(_aspect, row)) + LINE * lines + BETWEEN


def _aspect(panel: Panel) -> float:
    """Height by width of its picture."""
    return 1.0 if panel.picture is None else panel.picture.shape[0] / panel.picture.shape[1]


def draw(panel: Panel, axis: Axes) -> None:
    """One panel on its axes, whose shape stays."""
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
    axis.imshow(_shrink(_tinted(panel.picture, panel)), extent=extent, interpolation="none")
    if panel.heat:
        values, (x, y, w, h) = panel.heat
        axis.imshow(
            values, cmap="magma", vmin=0, vmax=1, alpha=0.75, interpolation="none",
            extent=(x - 0.5, x + w - 0.5, y + h - 0.5, y - 0.5),
        )  # fmt: skip
    if panel.cut_out:
        _edge(axis, *panel.cut_out, 1.2)
    for outline in panel.outlines:
        _edge(axis, outline.mask, outline.colour, 1.0 if outline.filled else 0.6)
    for (x, y, w, h), line in panel.boxes:
        patch = Rectangle((x - 0.5, y - 0.5), w, h, fill=False, linewidth=0.8, linestyle=line)
        axis.add_patch(patch)
    axis.set(xlim=extent[:2], ylim=extent[2:])


def _tinted(original: NDArray[np.uint8], panel: Panel) -> NDArray[np.uint8]:
    """The picture with what lies outside a cut-out faded, and filled outlines tinted.

    Whole images lose their lowest three bits, which nobody sees and which double an SVG's size.
    """
    picture = original.astype(np.float32)
    if panel.cut_out:
        outside = ~panel.cut_out[0]
        picture[outside] += _FADE * (255 - picture[outside])
    if panel.outlines:
        picture += 0.4 * (255 - picture)
    for outline in panel.outlines:
        if outline.filled:
            colour = np.array([int(outline.colour[i : i + 2], 16) for i in (1, 3, 5)])
            picture[outline.mask] += 0.55 * (colour - picture[outline.mask])
    return picture.astype(np.uint8) | np.uint8(7 if panel.outlines else 0)


def _edge(axis: Axes, mask: NDArray[np.bool_], colour: str, width: float) -> None:
    """The mask's outline, along the picture's border too; a third of the corners is plenty."""
    y, x = (np.arange(-1, length + 1) for length in mask.shape)
    lines = contour_generator(x, y, np.pad(mask, 1).astype(float)).lines(0.5)
    corners = [cv2.approxPolyDP(np.asarray(line, np.float32), 0.5, True)[:, 0] for line in lines]
    paths = [MplPath(np.vstack([line, line[:1]]), closed=True) for line in corners]
    if paths:
        path = MplPath.make_compound_path(*paths)
        axis.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=width))


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(picture.shape[:2]) / MAX_SIDE
    if factor <= 1:
        return picture
    size = round(picture.shape[1] / factor), round(picture.shape[0] / factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def save_picture(figure: Figure, folders: Sequence[Path], name: str) -> None:
    """Write `name.png` and `name.svg` into each of `folders`, and close the figure."""
    style.save(figure, folders[0], name, DPI, COLOURS)
    for folder in folders[1:]:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            shutil.copyfile(folders[0] / f"{name}.{suffix}", folder / f"{name}.{suffix}")
