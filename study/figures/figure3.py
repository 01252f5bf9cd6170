"""Figure 3 (paper, section 4.2): mask AP of novel classes against class overlap, both models."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from study import format as markdown
from study.analysis.class_points import MODELS, largest_relative
from study.analysis.regression import can_fit, fit_line
from study.figures.style import COLOURS, LABELS, MARKERS, mark_not_run, new_figure

_READING_LABELS = {
    "other_class": "mean IoU with overlapping boxes of other classes",
    "other_class_pairs": "mean IoU with boxes of other classes",
    "any_overlapping": "mean IoU with overlapping boxes",
    "all_pairs": "mean IoU with all boxes of the image",
    "max_other_class": "mean of the largest IoU with a box of another class",
    "max": "mean of the largest IoU with another box",
}
_LABEL_POINTS = 6  # type size of class names
_GAP = 5  # pixels between two texts: two words are not to read as one
# Where a label may stand: distance from its point in typographic points, then direction.
_DISTANCES = (5, 9, 14, 20, 28, 38, 50, 70, 90)
_ANGLES = np.deg2rad([0, 180, 45, 135, 90, 315, 225, 270, 20, 160, 340, 200])


def figure3(points: pd.DataFrame, table: pd.DataFrame, reading: str) -> Figure:
    """Two panels, Mask R-CNN above OPMask; a point a class, the fit and its 95 % band.

    Args:
        points: of `class_points.class_points`; the classes of largest relative improvement
            are named in both panels.
        table: of `regression.regress` on the same points: r and p.
        reading: of overlap, one of `overlap.READINGS`.
    """
    figure, axes = new_figure(height=5.0, nrows=2, sharex=True, sharey=True)
    named = largest_relative(points)
    for axis, model in zip(axes, MODELS, strict=True):
        _panel(axis, points, named, table, model)
    figure.supxlabel(_READING_LABELS[reading], fontsize=8)
    figure.supylabel("mask AP of the class where it is novel", fontsize=8)
    # room for r and p above, for labels below; the band may go on below 0, where no AP is
    highest = max(1, np.nan_to_num(points[[*MODELS]].to_numpy()).max())
    axes[0].set_ylim(-0.22 * highest, 1.14 * highest)
    axes[0].set_yticks([tick for tick in axes[0].get_yticks() if 0 <= tick <= 1.14 * highest])
    figure.draw_without_rendering()  # the layout, which the places of the labels depend on
    for axis, model in zip(axes, MODELS, strict=True):
        line = [np.column_stack(one.get_data()) for one in axis.lines]
        _place_labels(axis, np.vstack([points[["iou", model]].dropna(), *line]))
    return figure


def _panel(
    axis: Axes, points: pd.DataFrame, named: pd.DataFrame, table: pd.DataFrame, model: str
) -> None:
    axis.set_title(LABELS[model], fontsize=8)
    x, y = points[["iou", model]].dropna().to_numpy().T
    if not len(x):
        mark_not_run(axis)
        return
    colour = COLOURS[model]
    axis.scatter(x, y, s=11, c=colour, marker=MARKERS[model], alpha=0.7, linewidths=0)
    if can_fit(x, y):
        grid = np.linspace(x.min(), x.max(), 200)
        design = np.column_stack([np.ones_like(grid), grid])
        band = fit_line(x, y).get_prediction(design).summary_frame(alpha=0.05)
        axis.plot(grid, band["mean"], color="black", linewidth=1)
        edges = band["mean_ci_lower"], band["mean_ci_upper"]
        axis.fill_between(grid, *edges, color=colour, alpha=0.2, linewidth=0)
    row = table.set_index(["model", "quantity"]).loc[(model, "r")]
    p = "p < .001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
    text = f"r = {markdown.number(row['value'], 2)}, {p}, n = {row['n']}"
    axis.text(0.98, 0.98, text, transform=axis.transAxes, ha="right", va="top")
    for _, one in named.dropna(subset=[model]).iterrows():
        place = one["iou"], one[model]
        axis.scatter(*place, s=16, c=colour, marker=MARKERS[model], edgecolors="black", lw=0.6)
        arrow = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.35", "shrinkA": 0, "shrinkB": 2}
        axis.annotate(
            one["category"],
            place,
            xytext=(0, 0),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=_LABEL_POINTS,
            arrowprops=arrow,
            in_layout=False,  # stays inside the panel
        )


def _place_labels(axis: Axes, points: NDArray) -> None:
    """Move each annotation to the first place near its point where it covers nothing: no other
    text, no point (N, 2: classes and fit), not the panel's edge. Where all is taken, where it
    covers least. One after the other, in the order that turns out best."""
    labels = [text for text in axis.texts if isinstance(text, Annotation)]
    fixed = [text.get_window_extent() for text in axis.texts if text not in labels]
    dots = axis.transData.transform(points)
    tried = [
        _place(sorted(labels, key=lambda label: sign * label.xy[k]), dots, fixed, axis)
        for k in (0, 1)
        for sign in (1, -1)
    ]
    for label, (x, y) in min(tried, key=lambda one: one[0])[1].items():
        label.set_position((x, y))


def _place(
    labels: Sequence[Annotation], dots: NDArray, fixed: Sequence[Bbox], axis: Axes
) -> tuple[float, dict[Annotation, NDArray]]:
    """What the labels cost, placed in this order, and where each comes to stand."""
    taken, places, total = list(fixed), {}, 0.0
    for label in labels:
        start = axis.transData.transform(label.xy)
        options = [
            (*_cost(box, start, dots, taken, axis.bbox), corner, box)
            for corner, box in _options(label, start)
        ]
        cost, leader, places[label], box = min(options, key=lambda one: one[0])
        total += cost
        taken.append(box)
        dots = np.vstack([dots, leader])
    return total, places


def _options(label: Annotation, start: NDArray) -> Iterator[tuple[NDArray, Bbox]]:
    """Where the label's lower left corner may go, in typographic points from its point, and the
    box that it fills there, both the box and the point `start` (2,) in pixels."""
    pixels = label.figure.dpi / 72  # a typographic point
    extent = Text.get_window_extent(label)  # an annotation's own extent includes its arrow
    size = np.array([extent.width, extent.height]) / pixels
    for distance, angle in product(_DISTANCES, _ANGLES):
        step = distance * np.array([np.cos(angle), np.sin(angle)]).round(6)
        # the side or corner that faces the point stands at the end of the step
        corner = step - size * np.select([step > 0, step < 0], [0, 1], 0.5)
        yield corner, Bbox.from_bounds(*start + corner * pixels, *size * pixels)


def _cost(
    box: Bbox, start: NDArray, dots: NDArray, taken: Sequence[Bbox], panel: Bbox
) -> tuple[float, NDArray]:
    """Points that the box would cover, and a little for its distance; much more for each text that
    its leader crosses, and most for each that it covers, and for the panel's edge.

    With the leader: points (N, 2) from `start` to the centre of the box, as far as it is seen.
    """
    (low, high), (first, last) = box.get_points(), panel.get_points()
    line = start + np.linspace(0, 1, 20)[:, None] * ((low + high) / 2 - start)
    leader = line[~_inside(line, box)]
    outside = (low < first).any() or (high > last).any()
    texts = sum(box.overlaps(other.padded(_GAP)) for other in taken)
    crossed = sum(_inside(leader, other).any() for other in taken)
    length = np.ptp(leader, axis=0).max() if len(leader) else 0
    cost = _inside(dots, box).sum() + 0.02 * length + 1e3 * crossed + 1e6 * (texts + outside)
    return cost, leader


def _inside(dots: NDArray, box: Bbox) -> NDArray:
    """Which of the points (N, 2) the box would cover, or touch: within 2 pixels."""
    low, high = box.get_points()
    return ((dots > low - 2) & (dots < high + 2)).all(axis=1)
