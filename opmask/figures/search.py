"""The schedule search (section 4.5): mask AP against iteration, on held-out training images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opmask.analysis.comparison import DIRECTIONS, NOT_RUN
from opmask.analysis.held_out import RUN
from opmask.analysis.search import PAPER_RUNS, search_runs
from opmask.figures.style import COLOURS, PAGE, new_figure

_LOOKS = {
    "novel": {"color": COLOURS["opmask"], "marker": "o", "ls": "-"},
    "supervised": {"color": "0.4", "marker": "s", "ls": "--"},
}


def figure_data(curves: pd.DataFrame, table: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The data behind the figure, and box AP beside it: a row a run × seed × snapshot × measure.

    Args:
        curves: of `search.read_curves`.
        table: of `search.search_table`.
        factor: the scale's schedule_factor.

    Returns:
        Columns of `curves`, thousands (of the paper's schedule), and picked: whether novel classes
        were best there in this split.
    """
    best = table.query("choice == 'best' and classes == 'novel' and seeds > 0")
    keys = [*RUN, "iteration"]
    picked = set(best[keys].itertuples(index=False, name=None))
    return curves.assign(
        thousands=curves["iteration"].astype(float) / factor / 1000,
        picked=[row in picked for row in curves[keys].itertuples(index=False, name=None)],
    )


def draw(data: pd.DataFrame, schedules: Mapping[str, Any], factor: float) -> Figure:
    """One panel a search run: the paper's two, then any other.

    Args:
        data: of `figure_data`.
        schedules: `params.yaml: schedules`, for the learning rate steps.
        factor: the scale's schedule_factor.
    """
    panels = search_runs(data)
    figure, grid = new_figure(
        width=PAGE, height=2.7, ncols=len(panels), sharex=True, sharey=True, squeeze=False
    )
    for axes, run in zip(grid[0], panels, strict=True):
        _panel(axes, data[(data[RUN] == list(run)).all(axis="columns")], run)
        for step in schedules[run[3]]["steps"] if run[3] else ():
            axes.axvline(step * factor, color="grey", lw=1, ls=":", label="LR ÷ 10")
        top = axes.secondary_xaxis(
            "top", functions=(lambda x: x / factor / 1000, lambda x: x * factor * 1000)
        )
        top.set_xlabel("iterations of the paper's schedule, thousands")
        axes.set_xlabel("iterations")
    grid[0, 0].set_ylabel("mask AP, held-out images")
    found = [axes.get_legend_handles_labels() for axes in grid[0]]
    handles = {name: handle for h, names in found for handle, name in zip(h, names, strict=True)}
    if handles:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, run: tuple[str, ...]) -> None:
    title = DIRECTIONS[run[2]] if run[:3] in PAPER_RUNS else "-".join(run)
    axes.set_title(title, fontsize=8)
    mask = rows.query("task == 'segm' and metric == 'AP'")
    for classes, look in _LOOKS.items():
        seeds = [one for _, one in mask[mask["classes"] == classes].groupby("seed")]
        if not seeds:
            continue
        for one in seeds if len(seeds) > 1 else ():
            axes.plot(one["iteration"], one["value"], color=look["color"], lw=0.5, alpha=0.5)
        if len(seeds) == 1:  # the interval is one run's
            band = (seeds[0][name].astype(float) for name in ("iteration", "low", "high"))
            axes.fill_between(*band, color=look["color"], alpha=0.15, lw=0)
        mean = pd.concat(seeds).groupby("iteration")["value"].mean()
        axes.plot(mean.index, mean, ms=3, lw=1.2, label=f"{classes} classes", **look)
    if rows.empty:
        axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center", color="grey")
    chosen = mask.query("picked and classes == 'novel'").groupby("iteration")["value"].mean()
    if len(chosen):
        axes.plot(chosen.index, chosen, "*", ms=10, mfc="white", mec="black", label="picked")
