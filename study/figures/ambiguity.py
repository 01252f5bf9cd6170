"""Our control figure: OPMask's gain against how ambiguous the RoI is (section 4.2)."""

from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from study.analysis.ambiguity_effect import CONTRAST_NAMES, CONTRASTS
from study.figures import style
from study.labels import BACKBONES, DIRECTIONS, shown_backbones

_LINES = dict(zip(CONTRASTS[:2], ("opmask", "maskrcnn7"), strict=True))


def ambiguity_figure(bins: pd.DataFrame, threshold: float, folder: Path) -> None:
    """Write `ambiguity.{png,svg,csv}`: gain in mask IoU of novel instances, a panel a run pair.

    `bins` is of `ambiguity_effect.bin_table`; the dashed line is the threshold of *ambiguous*.
    """
    backbones = shown_backbones(bins["backbone"].unique())
    figure, axes = style.new_figure(
        height=3.7, nrows=len(backbones), ncols=len(DIRECTIONS), sharex=True, sharey=True
    )
    for axis, (backbone, supervised) in zip(axes.flat, product(backbones, DIRECTIONS), strict=True):
        rows = bins[(bins["backbone"] == backbone) & (bins["supervised"] == supervised)]
        _panel(axis, rows, 100 * threshold)
        axis.set_title(f"{BACKBONES[backbone]}\n{DIRECTIONS[supervised]}", fontsize=7)
    axes.flat[0].set_xlim(left=-3)  # of all, once they show all their points
    figure.supxlabel("share of the box that other instances cover (%)", fontsize=8)
    figure.supylabel("gain in mask IoU over Mask R-CNN (points)", fontsize=8)
    style.common_legend(figure, axes.flat, loc="outside upper center")
    style.save(figure, folder, "ambiguity")
    bins.round(4).to_csv(folder / "ambiguity.csv", index=False)


def _panel(axis: Axes, rows: pd.DataFrame, threshold: float) -> None:
    axis.axhline(0, color="black", linewidth=0.6)
    axis.axvline(threshold, color="grey", linewidth=0.8, linestyle="--")
    if not len(rows):
        style.mark_not_run(axis)
    for shift, (contrast, method) in zip((-0.6, 0.6), _LINES.items(), strict=True):
        line = rows[rows["contrast"] == "-".join(contrast)]
        if len(line):
            axis.errorbar(
                100 * line["ambiguity"] + shift,
                line["gain"],
                yerr=[line["gain"] - line["low"], line["high"] - line["gain"]],
                color=style.COLOURS[method],
                marker=style.MARKERS[method],
                markersize=3,
                linewidth=1,
                capsize=2,
                label=CONTRAST_NAMES[contrast],
            )
