"""Why does it work? All controls on one axis: the gain over the baseline, both directions.

One panel a measure of masks. Thick: 95 % over images; thin: over seeds.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis.controls import MEASURES
from study.figures.style import COLOURS, PAGE, common_legend, mark_not_run, new_figure
from study.labels import DIRECTIONS, MODELS

_SHIFT = {"voc": -0.17, "nonvoc": 0.17}


def draw(table: pd.DataFrame) -> Figure:
    """The figure from `analysis.controls.controls_table`."""
    tasks = [task for task in MEASURES if task in set(table["task"])] or ["segm"]
    names = [_name(*one) for one in table[["method", "all_masks"]].itertuples(index=False)]
    lines = list(dict.fromkeys(names))
    figure, panels = new_figure(
        PAGE, 1 + 0.19 * len(lines), ncols=len(tasks), sharey=True, squeeze=False
    )
    table = table.assign(y=[float(lines.index(name)) for name in names])
    for axes, task in zip(panels[0], tasks, strict=True):
        for supervised, direction in DIRECTIONS.items():
            rows = table.query("task == @task and supervised == @supervised")
            _whiskers(axes, rows, _SHIFT[supervised], COLOURS[supervised], direction)
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel(f"gain: {MEASURES[task]}")
    if not lines:
        mark_not_run(panels[0][0])
    panels[0][0].set_yticks(range(len(lines)), lines)
    panels[0][0].invert_yaxis()
    if lines:
        common_legend(figure, panels[0], loc="outside upper center", ncols=2)
    return figure


def _name(method: str, all_masks: bool) -> str:
    return f"{MODELS.get(method, method)}{', all masks' if all_masks else ''}"


def _whiskers(axes: Axes, rows: pd.DataFrame, shift: float, colour: str, label: str) -> None:
    y = rows["y"] + shift
    axes.hlines(y, rows["seeds_low"], rows["seeds_high"], color=colour, lw=0.8)
    axes.hlines(y, rows["low"], rows["high"], color=colour, lw=2.2, alpha=0.6)
    axes.plot(rows["gain"], y, "o", ms=3.5, color=colour, label=label)
