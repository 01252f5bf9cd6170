"""AP of evaluated runs on resampled validation images, shared by all comparisons of two runs.

Each configuration's matches are resampled once, whatever number of comparisons it is part of;
intervals are of `opmask.evaluation.bootstrap`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.evaluation.bootstrap import data_and_draws, p_value, spread
from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.weighted_ap import METRICS, weighted_metrics
from study.analysis.estimate import Estimate

CONFIGURATION = ["method", "backbone", "supervised"]  # of all seeds; its name is these with hyphens


@dataclass(frozen=True)
class Resampled:
    """One metric of one configuration, or a difference of two, percent, on K classes.

    truth: what detections were matched to: ids of images and classes, then both of every object.
    """

    by_seed: pd.DataFrame  # index seed, columns category ids: on the images themselves
    draws: NDArray[np.float64]  # (1 + resamples, K) mean over seeds; row 0 is no resample
    truth: tuple[NDArray[Any], ...]

    def of(self, category_ids: Sequence[int]) -> "Resampled":
        """The same on some of the classes. Raises KeyError if one is unknown."""
        by_seed = self.by_seed[list(category_ids)]
        found = self.by_seed.columns.get_indexer(by_seed.columns)
        return replace(self, by_seed=by_seed, draws=self.draws[:, found])

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference, of seeds that both have: they share initialisation and image order.

        Raises ValueError if the two were not matched to the same ground truth.
        """
        _check_same(self.truth, other.truth)
        by_seed = (self.by_seed - other.by_seed).dropna(how="all")
        return Resampled(by_seed, self.draws - other.draws, self.truth)

    def estimate(self) -> Estimate:
        """Mean over classes, absent ones left out, with its interval, p, and spread over seeds."""
        draws = pd.DataFrame(self.draws).mean(axis="columns").to_numpy()
        value, (low, high), seeds = (
            float(draws[0]),
            spread(draws),
            self.by_seed.mean(axis="columns"),
        )
        sd, p = float(seeds.std()), p_value(draws)
        return Estimate("", value, low, high, sd=sd, seeds=len(seeds), p=p)


class Resampler:
    """The evaluated runs of one schedule, resampled on first use.

    Args:
        folder: with `matches_<task>.npz` of every evaluated run, in a folder of its key.
        per_class: of `results.read_per_class`: says which runs exist, and which classes of each are
            novel.
        resamples, seed: of the bootstrap.
    """

    def __init__(self, folder: Path, per_class: pd.DataFrame, *, resamples: int, seed: int):
        self.folder, self.resamples, self.seed = folder, resamples, seed
        names = per_class[CONFIGURATION].astype(str).agg("-".join, axis="columns")
        self._rows = dict(list(per_class.groupby(names, sort=False))) if len(per_class) else {}
        self._nothing = per_class.iloc[:0]
        self._done: dict[tuple[str, str], dict[str, Resampled]] = {}

    @property
    def names(self) -> list[str]:
        """Every configuration that was run, METHOD-BACKBONE-SUPERVISED, in their order."""
        return list(self._rows)

    def rows(self, name: str, task: str = "segm") -> pd.DataFrame:
        """Per-class results of METHOD-BACKBONE-SUPERVISED; empty if not run."""
        found = self._rows.get(name, self._nothing)
        return found[found["task"] == task]

    def classes(self, name: str, which: str) -> list[int]:
        """Ids of the novel | supervised | all classes of a configuration; empty if not run."""
        rows = self.rows(name, "bbox")
        if which != "all":
            rows = rows[rows["supervision"] == which]
        return sorted(rows["category_id"].unique().tolist())

    def ap(self, name: str, task: str = "segm", metric: str = "AP") -> Resampled | None:
        """One of `weighted_ap.METRICS` of a configuration over its seeds, or None if not run."""
        if (name, task) not in self._done:
            runs = self.rows(name, task)[["run", "seed"]].drop_duplicates().itertuples(index=False)
            folders = {seed: self.folder / f"{run}-{seed}" for run, seed in runs}
            found = {s: Matches.load(path / f"matches_{task}.npz") for s, path in folders.items()}
            settings = {"resamples": self.resamples, "seed": self.seed}
            self._done[name, task] = resample(found, **settings) if found else {}
        return self._done[name, task].get(metric)

    def gain(
        self, a: str, b: str, category_ids: Sequence[int], task: str = "segm", metric: str = "AP"
    ) -> Resampled | None:
        """a − b on some classes, or None unless both were run."""
        one, other = (self.ap(name, task, metric) for name in (a, b))
        if one is None or other is None:
            return None
        return one.of(category_ids) - other.of(category_ids)


def resample(by_seed: Mapping[Any, Matches], *, resamples: int, seed: int) -> dict[str, Resampled]:
    """Each of `weighted_ap.METRICS` of one configuration from its runs, on all their classes.

    Raises ValueError if the runs were not matched to the same ground truth.
    """
    truths = [(m.image_ids, m.category_ids, m.gt_image, m.gt_category) for m in by_seed.values()]
    for truth in truths:
        _check_same(truths[0], truth)
    images, ids = truths[0][:2]
    weights = data_and_draws(len(images), resamples, seed)
    found = {name: weighted_metrics(matches, weights) for name, matches in by_seed.items()}
    draws = np.mean(list(found.values()), axis=0)
    return {
        metric: Resampled(
            pd.DataFrame({name: aps[n, 0] for name, aps in found.items()}, index=ids).T,
            draws[n],
            truths[0],
        )
        for n, metric in enumerate(METRICS)
    }


def _check_same(a: Sequence[NDArray], b: Sequence[NDArray]) -> None:
    if not all(map(np.array_equal, a, b)):
        raise ValueError("runs to compare were not matched to the same ground truth")
