"""Does OPMask gain more where RoIs are ambiguous? The paper's explanation, tested (section 4.2).

Two methods are compared on the instances that both found, so that neither is judged on easier ones.
Gains in ambiguous and in clean RoIs, and the difference of the two, come with intervals of a paired
bootstrap over images: instances of one image are not independent. `maskrcnn7`, the baseline with
OPMask's deeper mask head, separates the prior's share of the gain from the head's.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.evaluation.bootstrap import image_weights
from study.analysis.ambiguity import MEASURES
from study.labels import DIRECTIONS, with_others

METHODS = ("maskrcnn", "opmask", "maskrcnn7")
CONTRASTS = (("opmask", "maskrcnn"), ("maskrcnn7", "maskrcnn"), ("opmask", "maskrcnn7"))
CONTRAST_NAMES = {
    CONTRASTS[0]: "OPMask − Mask R-CNN",
    CONTRASTS[1]: "7-conv control − Mask R-CNN",
    CONTRASTS[2]: "OPMask − 7-conv control",
}
CLASSES = ("novel", "supervised")
GROUPS = ("ambiguous", "clean", "difference")
BINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
AP = "AP"
_CELL = ["backbone", "supervised", "classes", "measure", "contrast", "group"]
_VALUES = ["a", "b", "gain", "low", "high", "sd"]
_COUNTS = ["instances", "images", "seeds"]


def pairs(frame: pd.DataFrame, contrast: tuple[str, str]) -> pd.DataFrame:
    """Instances that both methods found, a row an instance and seed, measures as `_a` and `_b`.

    `frame`: instances × runs of one backbone and supervised set, as in `ambiguity.csv`.
    """
    keys = ["seed", "annotation_id", "image_id", "supervision", "ambiguity", "ambiguous"]
    a, b = (
        frame.loc[(frame["method"] == method) & (frame["detection"] >= 0), [*keys, *MEASURES]]
        for method in contrast
    )
    return a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")


def gains(
    paired: pd.DataFrame, measure: str, groups: Sequence[NDArray[np.bool_]], weights: NDArray
) -> tuple[NDArray, NDArray]:
    """Mean of `measure` by group, and by group and resample.

    Args:
        paired: of `pairs`; an `image` column says which column of `weights` is its image.
        measure: one of MEASURES; instances where either method has none are left out.
        groups: G masks over the rows of `paired`.
        weights: (B, images) of `bootstrap.image_weights`.

    Returns:
        `(S, G, 2)` means by seed, of a and b; `(B, G, 2)` means over the seeds by resample. NaN
        for an empty group.
    """
    columns = [f"{measure}_a", f"{measure}_b"]
    known = paired[columns].notna().all(axis=1).to_numpy()
    seeds = sorted(paired["seed"].unique())
    means = np.full((len(seeds), len(groups), 2), np.nan)
    draws = np.full((len(seeds), len(weights), len(groups), 2), np.nan)
    for (s, seed), (g, group) in product(enumerate(seeds), enumerate(groups)):
        rows = paired[known & group & (paired["seed"] == seed).to_numpy()]
        image, size = rows["image"].to_numpy(), weights.shape[1]
        sums = np.stack([np.bincount(image, rows[c], size) for c in columns], axis=1)
        counts = np.bincount(image, minlength=size)[:, None]
        means[s, g] = _ratio(sums.sum(0), counts.sum(0))
        draws[s, :, g] = _ratio(weights @ sums, weights @ counts)
    return means, draws.mean(axis=0)


def _ratio(sums: NDArray, counts: NDArray) -> NDArray:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def effect_table(
    frame: pd.DataFrame,
    ap: pd.DataFrame,
    image_ids: Sequence[int],
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """The whole comparison as a tidy frame, shares in percent.

    Args:
        frame: instances × runs, as in `ambiguity.csv`.
        ap: mask AP by backbone, supervised, method, seed, group (ambiguous | clean), column AP.
        image_ids: all validation images, of which the bootstrap draws.
        resamples, seed: of the bootstrap.

    Returns:
        A row a backbone × supervised × classes × measure × contrast × group, the group `difference`
        being ambiguous − clean: a and b (the methods' means), gain (a − b), its 95 % interval low
        and high, sd over seeds; instances (a seed), images, seeds. NaN where a method was not run.
        AP, of novel classes, has no interval.
    """
    weights = image_weights(len(image_ids), resamples, seed)
    rows = []
    for backbone, supervised, contrast, paired in _all_pairs(frame, image_ids):
        for classes, name in product(CLASSES, MEASURES):
            cell = (backbone, supervised, classes, name, "-".join(contrast))
            rows += _rows(cell, paired[paired["supervision"] == classes], weights)
        cell = (backbone, supervised, "novel", AP, "-".join(contrast))
        rows += _ap_rows(cell, ap, contrast)
    return pd.DataFrame(rows, columns=[*_CELL, *_VALUES, *_COUNTS])


def _all_pairs(
    frame: pd.DataFrame, image_ids: Sequence[int]
) -> Iterator[tuple[str, str, tuple[str, str], pd.DataFrame]]:
    """Backbone, supervised set, contrast, and its `pairs` with the column `image` of `gains`."""
    position = pd.Series(range(len(image_ids)), index=list(image_ids))
    backbones = with_others(frame["backbone"].unique())
    for backbone, supervised, contrast in product(backbones, DIRECTIONS, CONTRASTS):
        chosen = frame[(frame["backbone"] == backbone) & (frame["supervised"] == supervised)]
        paired = pairs(chosen, contrast)
        image = paired["image_id"].map(position).astype(int)
        yield backbone, supervised, contrast, paired.assign(image=image)


def _rows(cell: tuple, paired: pd.DataFrame, weights: NDArray) -> list[tuple]:
    if not len(paired):
        return _not_run(cell)
    ambiguous = paired["ambiguous"].to_numpy(bool)
    groups = [ambiguous, ~ambiguous]
    means, draws = (_with_difference(x) for x in gains(paired, cell[3], groups, weights))
    known = paired[[f"{cell[3]}_a", f"{cell[3]}_b"]].notna().all(axis=1).to_numpy()
    seeds, rows = len(means), []
    for g, (group, members) in enumerate(
        zip(GROUPS, [*groups, np.ones_like(ambiguous)], strict=True)
    ):
        values = summarise_gain(means[:, g], draws[:, g])
        counted = paired[known & members]
        counts = round(len(counted) / seeds), counted["image_id"].nunique(), seeds
        rows.append((*cell, group, *values, *counts))
    return rows


def _not_run(cell: tuple) -> list[tuple]:
    return [(*cell, group, *[np.nan] * len(_VALUES), 0, 0, 0) for group in GROUPS]


def _with_difference(means: NDArray) -> NDArray:
    """Append ambiguous − clean along the axis of groups, the last but one."""
    return np.concatenate([means, means[..., :1, :] - means[..., 1:2, :]], axis=-2)


def summarise_gain(means: NDArray, draws: NDArray) -> tuple[float, ...]:
    """(a, b, gain, low, high, sd) in percent from `(S, 2)` means and `(B, 2)` resamples."""
    by_seed, drawn = means[:, 0] - means[:, 1], draws[:, 0] - draws[:, 1]
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) > 1 else (np.nan, np.nan)
    sd = by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan
    values = *means.mean(axis=0), by_seed.mean(), low, high, sd
    return tuple(100 * float(value) for value in values)


def _ap_rows(cell: tuple, ap: pd.DataFrame, contrast: tuple[str, str]) -> list[tuple]:
    chosen = ap[(ap["backbone"] == cell[0]) & (ap["supervised"] == cell[1])]
    table = chosen.pivot_table(index="seed", columns=["method", "group"], values=AP)
    wanted = list(product(contrast, GROUPS[:2]))
    table = table.reindex(columns=pd.MultiIndex.from_tuples(wanted)).dropna()
    # (seeds, groups, methods)
    means = table.to_numpy(float).reshape(len(table), 2, 2).swapaxes(1, 2) / 100
    if not len(means):
        return _not_run(cell)
    no_draws = np.empty((0, 2))
    return [
        (*cell, group, *summarise_gain(_with_difference(means)[:, g], no_draws), 0, 0, len(means))
        for g, group in enumerate(GROUPS)
    ]


def bin_table(
    frame: pd.DataFrame, image_ids: Sequence[int], *, resamples: int, seed: int
) -> pd.DataFrame:
    """Gain in mask IoU of novel instances by bins of ambiguity: the data of the figure.

    Bins are (low, high] of BINS, the first with 0 included. Columns: backbone, supervised,
    contrast, bin_low, bin_high, ambiguity (mean), then as `effect_table`. Bins without an
    instance, and runs that were not made, have no row.
    """
    weights = image_weights(len(image_ids), resamples, seed)
    edges = list(zip(BINS[:-1], BINS[1:], strict=True))
    rows = []
    for backbone, supervised, contrast, paired in _all_pairs(
        frame[frame["supervision"] == "novel"], image_ids
    ):
        if not len(paired):
            continue
        x = paired["ambiguity"].to_numpy()
        groups = [((x > low) | (low == 0)) & (x <= high) for low, high in edges]
        means, draws = gains(paired, "mask_iou", groups, weights)
        for g, (edge, group) in enumerate(zip(edges, groups, strict=True)):
            if group.any():
                values = summarise_gain(means[:, g], draws[:, g])
                counts = round(group.sum() / len(means)), len(means)
                cell = backbone, supervised, "-".join(contrast), *edge, x[group].mean()
                rows.append((*cell, *values, *counts))
    columns = ["backbone", "supervised", "contrast", "bin_low", "bin_high", "ambiguity"]
    return pd.DataFrame(rows, columns=[*columns, *_VALUES, "instances", "seeds"])
