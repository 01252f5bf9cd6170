"""AP of evaluated runs on resampled validation images, shared by all comparisons of two runs.

Each configuration's matches are resampled once, whatever number of comparisons it is part of;
images weigh as in `opmask.evaluation.bootstrap`, whose intervals these are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.evaluation.bootstrap import LEVEL, data_and_draws
from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.weighted_ap import weighted_ap
from study.spec.results import evaluation_dir
from study.spec.run import Run

NAN = float("nan")


@dataclass(frozen=True)
class Resampled:
    """AP of one configuration, percent, on all K classes of the data set."""

    category_ids: NDArray[np.int64]  # (K,) ascending
    by_seed: pd.DataFrame  # index seed, columns category_ids: AP on the images themselves
    draws: NDArray[np.float64]  # (1 + resamples, K) mean over seeds; row 0 is no resample

    def subset(self, category_ids: Sequence[int]) -> NDArray[np.float64]:
        """(1 + resamples,) mean over the classes, absent ones left out; NaN if all are."""
        return (
            pd.DataFrame(self.draws[:, self.category_ids.searchsorted(category_ids)])
            .mean(axis="columns")
            .to_numpy()
        )


class Resampler:
    """The evaluated runs of one schedule, resampled on first use.

    Args:
        runs_dir: `runs/<scale>`, with `matches_<task>.npz` of every evaluated run.
        runs: of `plan.all_runs`, of one schedule.
        per_class: of `results.read_per_class` for `runs`: says which exist, and which classes of
            each are novel.
        resamples, seed: of the bootstrap.
    """

    def __init__(
        self,
        runs_dir: Path,
        runs: Sequence[Run],
        per_class: pd.DataFrame,
        *,
        resamples: int,
        seed: int,
    ):
        self.runs_dir, self.runs, self.per_class = runs_dir, runs, per_class
        self.resamples, self.seed = resamples, seed
        self._done: dict[tuple[str, str], Resampled | None] = {}

    def classes(self, name: str, which: str) -> list[int]:
        """Ids of the novel | supervised | all classes of configuration `name`; empty if not run."""
        rows = self._rows(name, "bbox")
        if which != "all":
            rows = rows[rows["supervision"] == which]
        return sorted(rows["category_id"].unique().tolist())

    def ap(self, name: str, task: str = "segm") -> Resampled | None:
        """Resampled AP of METHOD-BACKBONE-SUPERVISED over its seeds, or None if not run."""
        if (name, task) not in self._done:
            evaluated = set(self._rows(name, task)[["run", "seed"]].itertuples(False, None))
            wanted = [one for one in self.runs if (one.name, one.seed) in evaluated]
            self._done[name, task] = self._resample(wanted, task) if wanted else None
        return self._done[name, task]

    def _rows(self, name: str, task: str) -> pd.DataFrame:
        method, backbone, supervised = name.split("-")
        return self.per_class.query(
            "method == @method and backbone == @backbone and supervised == @supervised "
            "and task == @task"
        )

    def _resample(self, runs: Sequence[Run], task: str) -> Resampled:
        by_seed, total = {}, 0.0
        for one in runs:
            matches = Matches.load(evaluation_dir(self.runs_dir, one) / f"matches_{task}.npz")
            weights = data_and_draws(len(matches.image_ids), self.resamples, self.seed)
            ap = weighted_ap(matches, weights)
            by_seed[one.seed], total = ap[0], total + ap
        frame = pd.DataFrame.from_dict(by_seed, orient="index", columns=matches.category_ids)
        return Resampled(matches.category_ids, frame, total / len(runs))


def p_value(draws: NDArray[np.float64]) -> float:
    """Two-sided bootstrap p of the estimate in row 0 against 0; never below 2 / (resamples + 1).

    The deviations of the draws from their mean stand for the estimate's under the null hypothesis,
    so p < .05 where, but for the last resample, the 95 % interval of `bootstrap.spread` excludes 0.
    """
    estimate, resampled = draws[0], draws[1:][~np.isnan(draws[1:])]
    if len(resampled) < 2:
        return NAN
    null = resampled - resampled.mean()
    tail = min(np.count_nonzero(null <= -estimate), np.count_nonzero(null >= -estimate))
    return min(1.0, 2 * (1 + tail) / (1 + len(null)))


def class_interval(
    differences: NDArray[np.float64], *, resamples: int, seed: int, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval of the mean of (K,) per-class differences over resampled classes."""
    present = differences[~np.isnan(differences)]
    if len(present) < 2:
        return NAN, NAN
    drawn = np.random.default_rng(seed).integers(len(present), size=(resamples, len(present)))
    low, high = np.quantile(present[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
