"""Figure 6 (section 4.3): mask AP against the number of classes with masks in training.

The paper does not say which classes each point is tested on. Taken here as in its Table 1, whose
numbers the text repeats: the novel classes where there are any, all classes at full supervision.
Then every point has other test classes, and a slope along the axis mixes supervision with how hard
those classes are. So each point also has its AP on all 80 classes, the same for every point.
"""

from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study import paper
from study.analysis.estimate import NAN, Estimate
from study.analysis.resampling import Resampled, Resampler
from study.figures.style import COLOURS, LABELS, MARKERS, common_legend, new_figure
from study.labels import BASELINE, DIFFERENCE, METHODS, NOT_RUN, OURS, WITH_MASKS

POINTS = WITH_MASKS
TESTED = {"voc": "60 novel", "voc20": "40 novel", "nonvoc": "20 novel", "all": "all 80"}
BACKBONE = "R50"
_SHIFT = {BASELINE: -0.8, OURS: 0.8}  # so that intervals of equal points stay apart
_EVERYWHERE, _GAINS = ", all 80 classes", ("gain", "gain in the paper")


def figure6_table(resampler: Resampler) -> pd.DataFrame:
    """One row a point × measure × method; AP in percent.

    Columns: supervised, supervised_classes (20 | 40 | 60 | 80), measure (paper: on novel classes,
    or all where none is novel | all: on all classes), tested_classes (their number, 0 = not run),
    method (maskrcnn | opmask | difference); ap (mean over seeds), sd (over seeds, NaN for fewer
    than two), seeds (0 = not run; of the difference: those that both have), low, high (95 %,
    bootstrap over images, of the difference paired), paper (NaN where its text gives no number).
    """
    published = paper.load("figure6").set_index(["supervised", "method"])["AP"]
    rows = []
    for (supervised, count), measure in product(POINTS.items(), ("paper", "all")):
        point = {"supervised": supervised, "supervised_classes": count, "measure": measure}
        # at full supervision both measures are the paper's
        is_papers = measure == "paper" or supervised == "all"
        which = "novel" if measure == "paper" and supervised != "all" else "all"
        for method, (one, tested) in _point(resampler, supervised, which).items():
            label = METHODS.get(method, method)
            stated = published[supervised, label] if is_papers else NAN
            row = point | {"tested_classes": tested, "method": method, "ap": one.value}
            row |= {name: getattr(one, name) for name in ("sd", "seeds", "low", "high")}
            rows.append(row | {"paper": stated})
    return pd.DataFrame(rows)


def _point(resampler: Resampler, supervised: str, which: str) -> dict[str, tuple[Estimate, int]]:
    """AP of both methods and their difference, and the number of classes; 0 where not run."""
    found: dict[str, Resampled | None] = {}
    for method in (BASELINE, OURS):
        name = f"{method}-{BACKBONE}-{supervised}"
        one = resampler.ap(name)
        found[method] = one and one.of(resampler.classes(name, which))
    ours, baseline = found[OURS], found[BASELINE]
    found[DIFFERENCE] = ours - baseline if ours and baseline else None
    return {
        method: (one.estimate(), one.draws.shape[1]) if one else (Estimate(), 0)
        for method, one in found.items()
    }


def draw(table: pd.DataFrame) -> Figure:
    """The figure from `figure6_table`: AP above, and the gain of OPMask below."""
    figure, (top, bottom) = new_figure(
        height=4.2, nrows=2, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]}
    )
    papers = table[table["measure"] == "paper"]
    for method in (BASELINE, OURS):
        look = {"color": COLOURS[method], "label": LABELS[method]}
        points = papers[papers["method"] == method]
        _errorbars(top, points, _SHIFT[method], marker=MARKERS[method], **look)
        points = table.query("measure == 'all' and method == @method")
        look["label"] += _EVERYWHERE
        top.plot(points["supervised_classes"], points["ap"], ".:", ms=3, lw=1, **look)
    gains = papers[papers["method"] == DIFFERENCE]
    _errorbars(bottom, gains, 0, color="black", marker="o", label=_GAINS[0])
    bottom.plot(gains["supervised_classes"] + 2.2, gains["paper"], "D", mfc="none", ms=4,
                color="grey", label=_GAINS[1])  # fmt: skip
    bottom.axhline(0, color="black", lw=0.8)
    bottom.margins(y=0.2)
    for axes, label in ((top, "mask AP"), (bottom, "gain, AP")):
        axes.set_ylabel(label)
        _mark_missing(axes, table)
    _label(bottom, papers)
    names = [name for m, gain in zip(_SHIFT, _GAINS, strict=True)
             for name in (LABELS[m], LABELS[m] + _EVERYWHERE, gain)]  # fmt: skip
    common_legend(figure, (top, bottom), names, loc="outside upper center", ncols=2,
                  columnspacing=1, handlelength=1.6)  # fmt: skip
    return figure


def _label(axes: Axes, papers: pd.DataFrame) -> None:
    """The x axis: classes with masks, classes tested, and seeds."""
    seeds = papers[papers["method"] != DIFFERENCE].groupby("supervised")["seeds"].max()
    ticks = [f"{n}\n{TESTED[p]}\nn = {seeds[p]}" for p, n in POINTS.items()]
    axes.set_xticks(list(POINTS.values()), ticks)
    axes.set_xlim(12, 88)
    axes.set_xlabel("classes with masks in training / tested / seeds")


def _errorbars(axes: Axes, points: pd.DataFrame, shift: float, **style: Any) -> None:
    """Points with their intervals, not joined: each is tested on other classes."""
    ran = points[points["seeds"] > 0]
    errors = [ran["ap"] - ran["low"], ran["high"] - ran["ap"]]
    axes.errorbar(ran["supervised_classes"] + shift, ran["ap"], errors, fmt=" ", ms=4, capsize=2,
                  lw=1, **style)  # fmt: skip


def _mark_missing(axes: Axes, table: pd.DataFrame) -> None:
    """`not run` in the place of a point that neither method has."""
    for count, rows in table.groupby("supervised_classes"):
        if not rows["seeds"].any():
            axes.text(count, 0.5, NOT_RUN, transform=axes.get_xaxis_transform(), rotation=90,
                      ha="center", va="center", fontsize=7, color="grey")  # fmt: skip
