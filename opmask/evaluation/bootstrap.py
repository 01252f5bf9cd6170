"""Paired bootstrap over images: how far AP would move on other validation images (our addition).

A resample draws as many images as there are, with replacement. An image drawn twice gets weight 2
in the accumulation of precision and recall (`opmask.evaluation.weighted_ap`). Both methods of a
comparison see the same weights.

Only the images are resampled: the interval holds for the training runs at hand. What differs
between training seeds is a second source of error, reported beside it.

Intervals are percentiles of the draws' deviations from their own mean, laid around the estimate.
AP reads the best precision at or beyond a recall, so on repeated images it rises: draws lie above
the estimate, by more than one standard error once many classes are averaged. On 300 images and 40
classes of the simulation in `tests/test_bootstrap.py` plain 95 % percentiles covered the expected
AP in 50 of 100 trials and the expected difference in 83; these intervals did in 94 and 92.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.weighted_ap import METRICS, weighted_metrics

LEVEL = 0.95  # of every interval, unless another is asked for


@dataclass(frozen=True)
class Interval:
    """Mean AP of one method over its runs, in percent, with its interval."""

    estimate: float
    low: float
    high: float
    standard_error: float
    resamples: int
    runs: int


@dataclass(frozen=True)
class Difference:
    """AP of method a minus AP of method b, in percentage points, with its interval."""

    estimate: float
    low: float
    high: float
    standard_error: float
    a_mean: float
    b_mean: float
    resamples: int
    runs_a: int
    runs_b: int


def paired_difference(
    a: Sequence[Matches],
    b: Sequence[Matches],
    category_ids: Sequence[int],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Difference in AP on a class subset between two methods, as `paired_differences`."""
    found = paired_differences(a, b, category_ids, resamples=resamples, seed=seed, level=level)
    return found["AP"]


def paired_differences(
    a: Sequence[Matches],
    b: Sequence[Matches],
    category_ids: Sequence[int],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """Difference in each of METRICS on a class subset between two methods, a − b, on the same
    images and in the same resamples.

    Args:
        a, b: one Matches a training seed. AP of a method is the mean over its seeds.
        category_ids: dataset ids of the subset. Classes that have no object in a resample are left
            out of that resample's mean, for both methods alike.
        resamples: number of bootstrap draws.
        seed: of the draws, which depend on nothing else but the number of images.
        level: of the interval, in (0, 1).

    Raises:
        ValueError: no runs, runs not of one ground truth, or an argument out of range.
    """
    _check_runs([*a, *b], len(a) and len(b), resamples, level)
    weights = data_and_draws(len(a[0].image_ids), resamples, seed)
    ours, theirs = (_method_ap(runs, category_ids, weights) for runs in (a, b))
    counts = resamples, len(a), len(b)
    return {
        metric: _difference(ours[n], theirs[n], level, counts) for n, metric in enumerate(METRICS)
    }


def interval(
    a: Sequence[Matches],
    category_ids: Sequence[int],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """One method's own AP on a class subset. Arguments and errors as in `paired_differences`."""
    _check_runs(a, len(a), resamples, level)
    weights = data_and_draws(len(a[0].image_ids), resamples, seed)
    ap = _method_ap(a, category_ids, weights)[0]
    return Interval(float(ap[0]), *spread(ap, level), resamples, len(a))


def image_weights(n_images: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each image is drawn, (resamples, n_images); each row sums to n_images."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(n_images, size=(resamples, n_images))
    return np.stack([np.bincount(row, minlength=n_images) for row in drawn]).astype(np.float64)


def data_and_draws(n_images: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Weights of the data set itself, each image once, then `image_weights`: (1 + resamples, …)."""
    return np.vstack([np.ones((1, n_images)), image_weights(n_images, resamples, seed)])


def spread(draws: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float, float]:
    """(low, high, standard error) from (1 + resamples,) values, the estimate in row 0.

    Draws without a single object of the subset (NaN) are left out; with fewer than two, all NaN.
    """
    estimate, drawn = draws[0], draws[1:][~np.isnan(draws[1:])]
    if len(drawn) < 2:
        return np.nan, np.nan, np.nan
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = estimate + np.quantile(drawn - drawn.mean(), tails)
    return float(low), float(high), float(drawn.std(ddof=1))


def _difference(
    a: NDArray[np.float64], b: NDArray[np.float64], level: float, counts: tuple[int, int, int]
) -> Difference:
    """From the (1 + resamples,) APs of both methods."""
    means = float(a[0]), float(b[0])
    return Difference(means[0] - means[1], *spread(a - b, level), *means, *counts)


def _method_ap(
    runs: Sequence[Matches], category_ids: Sequence[int], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """METRICS by row of `weights`, (len(METRICS), B): mean over seeds, then over classes."""
    per_class = np.mean([weighted_metrics(run, weights, category_ids) for run in runs], axis=0)
    present = ~np.isnan(per_class)
    sums, counts = np.where(present, per_class, 0).sum(axis=-1), present.sum(axis=-1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _check_runs(runs: Sequence[Matches], enough: int, resamples: int, level: float) -> None:
    if not enough:
        raise ValueError("a bootstrap needs one run of each method at least")
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"resamples {resamples}, level {level}: allowed are ≥ 2 and (0, 1)")
    for run in runs[1:]:
        for name in ("image_ids", "category_ids", "gt_image", "gt_category"):
            if not np.array_equal(getattr(run, name), getattr(runs[0], name)):
                raise ValueError(f"runs to compare differ in {name}: not the same ground truth")
