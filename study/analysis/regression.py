"""Mask AP of novel classes regressed on class overlap: Figure 3's statistics (section 4.2).

The paper fits one line a model and argues from p = .003 (Mask R-CNN) against p = .189 (OPMask).
That one is significant and the other is not is no test of a difference between them (Gelman and
Stern 2006), so beside the two fits stand tests of the difference itself. Both models see the same
classes, so the difference is tested within classes; the test that takes the models' points for
independent is given for comparison.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResultsWrapper
from statsmodels.tools import add_constant

from study.analysis.class_points import MODELS, NOVELTY, SUPERVISED_APS, class_points
from study.analysis.estimate import NAN
from study.analysis.overlap import READINGS
from study.labels import BASELINE, DIFFERENCE, OURS

NEEDED = 4  # classes; with fewer a line and its error mean nothing
_ROUNDING = 1e-9  # of IoUs and APs: no more than this apart is equal
_COMPARED = (*MODELS, DIFFERENCE)
_FURTHER = (*SUPERVISED_APS, *NOVELTY)

Rows = dict[str, dict[str, Any]]  # of a model, by quantity


def regress(points: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """All regressions on one reading of overlap.

    Args:
        points: of `class_points.class_points`.
        resamples, seed: of the bootstrap over classes.

    Returns:
        Columns model, quantity, value, low, high (95 %), p, n (classes; 0 = not run), category.
        Slopes are in AP per unit of IoU. For the models maskrcnn, opmask and difference (OPMask's
        AP minus Mask R-CNN's, class by class):

        - slope, intercept, r (Pearson), spearman;
        - slope_bootstrap, r_bootstrap: percentile intervals over resampled classes (of
          `difference`: of the difference between the models' slopes, and between their r);
        - p_without_one: p of the slope, and its range when each class in turn is left out;
        - cooks_distance, dfbetas (of the slope): the largest in size. For these three `category`
          is the class that moves the result most.

        For `difference` alone, of which slope is the paired test of IoU × model:

        - interaction: of the stacked points of both models, taken for independent;
        - interaction_clustered: the same with errors clustered by class;
        - r_difference: of the models' two r, which share the classes (test of Williams 1959).

        As controls slope, intercept, r and spearman of MODEL_supervised (AP of each class from
        the run where it is supervised) and MODEL_novelty (novel minus supervised AP): if novel
        classes suffer from being learnt as background, the second slope is negative.

        NaN where a model was not run, or its APs or the IoUs do not vary.
    """
    found = {model: _lines(*_xy(points, model)[:2]) for model in (*_COMPARED, *_FURTHER)}
    for model in _COMPARED:
        found[model] |= _influence(*_xy(points, model))
    found[DIFFERENCE] |= _joint(points)
    for model, rows in _bootstrap(points, resamples, seed).items():
        found[model] |= rows
    return _table(points, found)


def regress_readings(per_class: pd.DataFrame, overlap: pd.DataFrame) -> pd.DataFrame:
    """Slope, r and Spearman under every reading of overlap: does the finding depend on it?

    Columns: reading, then as `regress`. Arguments as `class_points`.
    """
    tables = []
    for reading in READINGS:
        points = class_points(per_class, overlap, reading)
        found = {model: _lines(*_xy(points, model)[:2]) for model in _COMPARED}
        tables.append(_table(points, found))
    return pd.concat(tables, keys=READINGS, names=["reading"]).reset_index("reading")


def fit_line(x: NDArray, y: NDArray) -> RegressionResultsWrapper:
    """Least squares y = a + b·x; `params`, `conf_int()` and `pvalues` have a, then b."""
    return OLS(y, add_constant(x, has_constant="add")).fit()


def can_fit(x: NDArray, y: NDArray) -> bool:
    """Whether there are points enough for a line, and both coordinates vary."""
    return len(x) >= NEEDED and np.ptp(x) > _ROUNDING and np.ptp(y) > _ROUNDING


def williams(r_a: float, r_b: float, r_ab: float, n: int) -> tuple[float, float]:
    """Test of r_a = r_b, correlations of a and of b with the same x over n classes.

    Williams (1959), as recommended by Steiger (1980, eq. 7). r_ab: correlation of a and b.
    Returns t with n − 3 degrees of freedom, and two-sided p.
    """
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    scale = 2 * determinant * (n - 1) / (n - 3) + ((r_a + r_b) / 2) ** 2 * (1 - r_ab) ** 3
    t = (r_a - r_b) * np.sqrt((n - 1) * (1 + r_ab) / scale)
    return float(t), float(2 * stats.t.sf(abs(t), n - 3))


def implied_r(p: float, n: int) -> float:
    """|r| of a correlation over n classes whose two-sided p-value is `p`."""
    t = stats.t.isf(p / 2, n - 2)
    return float(t / np.sqrt(n - 2 + t**2))


def _xy(points: pd.DataFrame, model: str) -> tuple[NDArray, NDArray, NDArray]:
    """IoU, AP and name of the classes that have both."""
    known = points.dropna(subset=["iou", model])
    return known["iou"].to_numpy(), known[model].to_numpy(), known["category"].to_numpy()


def _row(
    value: float = NAN, interval: Sequence[float] = (NAN, NAN), p: float = NAN, category: str = ""
) -> dict[str, Any]:
    low, high = interval
    return {"value": value, "low": low, "high": high, "p": p, "category": category}


def _table(points: pd.DataFrame, found: Mapping[str, Rows]) -> pd.DataFrame:
    n = {model: len(_xy(points, model)[0]) for model in found}
    rows = [
        {"model": model, "quantity": quantity, "n": n[model]} | row
        for model, rows in found.items()
        for quantity, row in rows.items()
    ]
    columns = ["model", "quantity", "value", "low", "high", "p", "n", "category"]
    return pd.DataFrame(rows, columns=columns)


def _lines(x: NDArray, y: NDArray) -> Rows:
    if not can_fit(x, y):
        return dict.fromkeys(("slope", "intercept", "r", "spearman"), _row())
    fit, r, rank = fit_line(x, y), stats.pearsonr(x, y), stats.spearmanr(x, y)
    intervals = fit.conf_int()
    return {
        "slope": _row(fit.params[1], intervals[1], fit.pvalues[1]),
        "intercept": _row(fit.params[0], intervals[0], fit.pvalues[0]),
        "r": _row(r.statistic, r.confidence_interval(), r.pvalue),
        "spearman": _row(rank.statistic, p=rank.pvalue),
    }


def _influence(x: NDArray, y: NDArray, names: NDArray) -> Rows:
    if not can_fit(x, y):
        return dict.fromkeys(("p_without_one", "cooks_distance", "dfbetas"), _row())
    fit = fit_line(x, y)
    p = fit.pvalues[1]
    kept = ~np.eye(len(x), dtype=bool)
    with np.errstate(all="ignore"):  # no error left over: NaN or inf, as it should be
        without = np.array([fit_line(x[k], y[k]).pvalues[1] for k in kept])
        influence = fit.get_influence()
        cook, dfbetas = influence.cooks_distance[0], influence.dfbetas[:, 1]
    extremes = np.fmin.reduce(without), np.fmax.reduce(without)
    moves, most = np.nan_to_num(np.abs(without - p)).argmax(), np.abs(dfbetas).argmax()
    return {
        "p_without_one": _row(p, extremes, category=names[moves]),
        "cooks_distance": _row(cook.max(), category=names[cook.argmax()]),
        "dfbetas": _row(dfbetas[most], category=names[most]),
    }


def _joint(points: pd.DataFrame) -> Rows:
    """Tests of the difference from both models' points at once."""
    known = points.dropna(subset=["iou", *MODELS])
    x, a, b = (known[name].to_numpy() for name in ("iou", BASELINE, OURS))
    if not (can_fit(x, a) and can_fit(x, b) and can_fit(x, b - a)):
        return dict.fromkeys(("interaction", "interaction_clustered", "r_difference"), _row())
    n = len(x)
    ours, both = np.repeat([0.0, 1.0], n), np.tile(x, 2)
    stacked = OLS(np.append(a, b), np.column_stack([np.ones(2 * n), both, ours, both * ours]))
    classes = np.tile(np.arange(n), 2)
    fits = {
        "interaction": stacked.fit(),
        "interaction_clustered": stacked.fit(cov_type="cluster", cov_kwds={"groups": classes}),
    }
    rows = {k: _row(fit.params[3], fit.conf_int()[3], fit.pvalues[3]) for k, fit in fits.items()}
    r_a, r_b, r_ab = (np.corrcoef(u, v)[0, 1] for u, v in ((x, a), (x, b), (a, b)))
    return rows | {"r_difference": _row(r_b - r_a, p=williams(r_a, r_b, r_ab, n)[1])}


def _bootstrap(points: pd.DataFrame, resamples: int, seed: int) -> dict[str, Rows]:
    """Percentile intervals of slopes and r, and of their differences, over resampled classes."""
    draws = {}
    for model in MODELS:
        x, y, _ = _xy(points, model)
        # the same classes for both models: what they share cancels in the difference
        drawn = np.random.default_rng(seed).integers(max(1, len(x)), size=(resamples, len(x)))
        drawn = np.vstack([np.arange(len(x)), drawn])  # the estimate first
        draws[model] = np.full((2, resamples + 1), NAN)
        if can_fit(x, y):
            draws[model] = _slope_and_r(x[drawn], y[drawn])
    draws[DIFFERENCE] = draws[OURS] - draws[BASELINE]
    names = "slope_bootstrap", "r_bootstrap"
    return {
        model: {name: _percentiles(one) for name, one in zip(names, both, strict=True)}
        for model, both in draws.items()
    }


def _percentiles(draws: NDArray) -> dict[str, Any]:
    estimate, others = draws[0], draws[1:]
    known = others[~np.isnan(others)]  # a resample may hold one class only
    return _row(estimate, np.quantile(known, [0.025, 0.975]) if len(known) else (NAN, NAN))


def _slope_and_r(x: NDArray, y: NDArray) -> NDArray:
    """Of each row of x and y (B, n): (2, B)."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    xy, xx, yy = ((u * v).sum(axis=1) for u, v in ((x, y), (x, x), (y, y)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([xy / xx, xy / np.sqrt(xx * yy)])
