"""Section 4.5: which iteration of a long schedule to keep, and whether the mask head overfits.

The paper trains OPMask for 180k iterations, one learning rate step at 120k, on training images
minus 5000, and keeps the iteration that is best on the novel classes of those 5000, "the best
compromise between the splits". It gives no rule for the compromise. Here it is the highest mean
over the splits; of equal iterations the earliest, which costs least.

A maximum over snapshots is high by chance too: "best − last" cannot be negative. The paper's own
130k against the last iteration has no such choice in it, so its interval is the one that decides.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from opmask.evaluation.coco_ap import Matches
from study.analysis.estimate import NAN, Estimate
from study.analysis.held_out import RUN, Groups, matches_path
from study.analysis.resampling import Resampled, resample
from study.labels import NOT_RUN

PAPER_PICK = 130_000  # iterations
PAPER_RUNS = [("opmask", "R50", "nonvoc"), ("opmask", "R50", "voc")]
CHOICES = ("best", "compromise", "paper")
SAME, NOTHING = "same snapshot", "nothing to measure"


def mask_curve(curves: pd.DataFrame, classes: str) -> pd.Series:
    """Mask AP by iteration, mean over the seeds at hand, of one class group."""
    rows = curves.query("classes == @classes and task == 'segm' and metric == 'AP'")
    return rows.groupby("iteration")["value"].mean().sort_index().dropna()


def pick(novel: Sequence[pd.Series]) -> int | None:
    """The iteration that is best on novel classes: highest mean over the splits' curves, at the
    iterations that all have; of equal ones the earliest. None if there is none."""
    mean = pd.concat(novel, axis="columns", join="inner").mean(axis="columns").round(6)
    return int(mean.sort_index().idxmax()) if len(mean) else None


def nearest(curve: pd.Series, iteration: float) -> int:
    """The snapshot nearest to `iteration`, of two equally near the later."""
    return int(min(curve.index, key=lambda i: (abs(i - iteration), -i)))


def search_table(
    search_dir: Path,
    curves: pd.DataFrame,
    groups: Mapping[str, Groups],
    factor: float,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Mask AP at the chosen iterations against the last one, on the held-out images.

    Args:
        curves: of `read_curves`.
        groups: `class_groups` by supervised set.
        factor: the scale's schedule_factor.

    Returns:
        One row a run × choice × classes. method, backbone, supervised, schedule, seeds (0 = not
        run), choice (best: of this split; compromise: of the splits together; paper: nearest to
        130k), classes (novel | supervised), iteration and last (done), thousands and
        last_thousands (of the paper's schedule: iteration / factor / 1000), ap, ap_last, drop
        (ap − ap_last), low, high (95 %, paired bootstrap over images), verdict.
    """

    @cache
    def resampled(keys: tuple[str, ...], iteration: int) -> Resampled:
        matches = {key: Matches.load(matches_path(search_dir / key, iteration)) for key in keys}
        return resample(matches, resamples=resamples, seed=seed)["AP"]

    rows = []
    for run in search_runs(curves):
        mine, known = _of(curves, run), groups.get(run[2], {})
        for choice, iteration in _choices(curves, run, factor).items():
            pair = {
                classes: _against_last(resampled, mine, iteration, known.get(classes, ()))
                for classes in ("novel", "supervised")
            }
            found = verdict(*pair.values()) if len(mine) else NOT_RUN
            about = dict(zip(RUN, run, strict=True)) | {"choice": choice, "verdict": found}
            rows += [about | {"classes": c} | values for c, values in pair.items()]
    table = pd.DataFrame(rows)
    paper = table[["iteration", "last"]] / factor / 1000
    table = table.assign(thousands=paper["iteration"], last_thousands=paper["last"])
    columns = [*RUN, "seeds", "choice", "classes", "iteration", "thousands", "last"]
    return table[[*columns, "last_thousands", "ap", "ap_last", "drop", "low", "high", "verdict"]]


def _of(curves: pd.DataFrame, run: Sequence[str], but: str = "") -> pd.DataFrame:
    """Of one run, or of the runs that differ from it in nothing `but` one column."""
    wanted = {column: value for column, value in zip(RUN, run, strict=True) if column != but}
    return curves[(curves[list(wanted)] == list(wanted.values())).all(axis="columns")]


def search_runs(curves: pd.DataFrame) -> list[tuple[str, ...]]:
    """(method, backbone, supervised, schedule) of the paper's two searches, then of any other; an
    empty schedule: not run."""
    found = list(curves[RUN].drop_duplicates().itertuples(index=False, name=None))
    missing = [(*run, "") for run in PAPER_RUNS if run not in [one[:3] for one in found]]
    return sorted(found + missing, key=lambda run: (run[:3] not in PAPER_RUNS, run))


def _choices(curves: pd.DataFrame, run: Sequence[str], factor: float) -> dict[str, int | None]:
    """The iteration by choice; None where not run, or where a compromise lacks a second split."""
    novel = mask_curve(_of(curves, run), "novel")
    if novel.empty:
        return dict.fromkeys(CHOICES)
    alike = _of(curves, run, but="supervised").groupby("supervised")
    splits = [curve for _, rows in alike if len(curve := mask_curve(rows, "novel"))]
    picks = pick([novel]), pick(splits) if len(splits) > 1 else None
    return dict(zip(CHOICES, (*picks, nearest(novel, PAPER_PICK * factor)), strict=True))


def _against_last(
    resampled: Callable[[tuple[str, ...], int], Resampled],
    curves: pd.DataFrame,
    iteration: int | None,
    category_ids: Sequence[int],
) -> dict[str, float]:
    """AP at `iteration` and at the last one; NaN and 0 seeds where either is missing."""
    names = ("iteration", "last", "ap", "ap_last", "drop", "low", "high")
    if iteration is None or not category_ids:
        return dict.fromkeys(names, NAN) | {"seeds": 0}
    last, keys = int(curves["iteration"].max()), tuple(curves["key"].unique())
    then, end = (resampled(keys, number).of(category_ids) for number in (iteration, last))
    ap, ap_last, drop = (one.estimate() for one in (then, end, then - end))
    values = iteration, last, ap.value, ap_last.value, drop.value, drop.low, drop.high
    return dict(zip(names, values, strict=True)) | {"seeds": len(keys)}


def verdict(novel: Mapping[str, float], supervised: Mapping[str, float]) -> str:
    """Whether training from the chosen iteration to the last one overfits, from 95 % intervals.

    overfits: AP of novel classes falls and that of supervised ones does not; falls for both; rises:
    AP of novel classes rises; undecided; same snapshot; nothing to measure (no novel object with a
    mask, or a compromise without a second split). Of no run at all `search_table` says: not run.
    """
    ends = [Estimate(low=one["low"], high=one["high"]) for one in (novel, supervised)]
    drop, other = (one.side_of() for one in ends)
    if drop == "unknown":
        return NOTHING
    if novel["iteration"] == novel["last"]:
        return SAME
    if drop == "above":
        return "falls for both" if other == "above" else "overfits"
    return "rises" if drop == "below" else "undecided"
