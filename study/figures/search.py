"""The schedule search (section 4.5): mask AP against iteration, on held-out training images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.analysis.held_out import RUN
from study.analysis.search import PAPER_RUNS, search_runs
from study.figures.style import COLOURS, common_legend, mark_not_run, new_figure
from study.labels import DIRECTIONS

_LOOKS: dict[str, dict[str, Any]] = {
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
    """One panel a search run, below each other: the paper's two, then any other.

    Args:
        data: of `figure_data`. Where a run is not in it, the panel says so.
        schedules: `paper.yaml: schedules`, for the learning rate steps.
        factor: the scale's schedule_factor.
    """
    panels = search_runs(data)
    heights = [1.6 if run[3] else 0.35 for run in panels]
    figure, grid = new_figure(
        height=sum(heights) + (1.0 if len(data) else 0.4), nrows=len(panels), sharex=True,
        squeeze=False, gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    curves = []
    for axes, run in zip(grid[:, 0], panels, strict=True):
        axes.set_title(DIRECTIONS[run[2]] if run[:3] in PAPER_RUNS else "-".join(run), fontsize=8)
        if not run[3]:
            axes.set_axis_off()
            mark_not_run(axes)
            continue
        curves.append(axes)
        _curves(axes, data[(data[RUN] == list(run)).all(axis="columns")])
        for step in schedules[run[3]]["steps"]:
            axes.axvline(step * factor, color="grey", lw=1, ls=":", label="LR ÷ 10")
    if curves:
        _label(figure, curves, factor)
    return figure


def _label(figure: Figure, curves: list[Axes], factor: float) -> None:
    """Both x axes, the done iterations below and the paper's above, and one legend."""
    curves[-1].tick_params(labelbottom=True)
    curves[-1].set_xlabel("iterations")

    def thousands(iterations: Any) -> Any:
        return iterations / factor / 1000

    def done(thousand: Any) -> Any:
        return thousand * factor * 1000

    top = curves[0].secondary_xaxis("top", functions=(thousands, done))
    top.set_xlabel("iterations of the paper's schedule, thousands")
    figure.supylabel("mask AP, held-out images", fontsize=8)
    common_legend(figure, curves, loc="outside lower center", ncols=2)


def _curves(axes: Axes, rows: pd.DataFrame) -> None:
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
    chosen = mask.query("picked and classes == 'novel'").groupby("iteration")["value"].mean()
    if len(chosen):
        axes.plot(chosen.index, chosen, "*", ms=10, mfc="white", mec="black", label="picked")
