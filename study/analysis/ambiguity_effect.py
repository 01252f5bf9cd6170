"""Does OPMask gain more where RoIs are ambiguous? The paper's explanation, tested (section 4.2).

Two methods are compared on the instances that both found, so that neither is judged on easier ones;
in true boxes, on all instances.
Gains in ambiguous and in clean RoIs, and the difference of the two, come with intervals of a paired
bootstrap over images: instances of one image are not independent. `maskrcnn7`, the baseline with
OPMask's deeper mask head, separates the prior's share of the gain from the head's.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.evaluation.bootstrap import image_weights
from study.analysis import ambiguity
from study.labels import DIRECTIONS, with_others

METHODS = ("maskrcnn", "opmask", "maskrcnn7")
CONTRASTS = (("opmask", "maskrcnn"), ("maskrcnn7", "maskrcnn"), ("opmask", "maskrcnn7"))
_NAMES = "OPMask − Mask R-CNN", "7-conv control − Mask R-CNN", "OPMask − 7-conv control"
CONTRAST_NAMES = dict(zip(CONTRASTS, _NAMES, strict=True))
MEASURES = (*ambiguity.MEASURES, ambiguity.IN_TRUE_BOX)
CLASSES = ("novel", "supervised")
GROUPS = ("ambiguous", "clean", "difference")
BINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
AP = "AP"
_VALUES = ["a", "b", "gain", "low", "high", "sd", "instances", "images", "seeds"]
_EFFECT = ["backbone", "supervised", "classes", "measure", "contrast", "group", *_VALUES]
_BINS = ["backbone", "supervised", "contrast", "bin_low", "bin_high", "ambiguity", *_VALUES]

Row = dict[str, Any]
Gain = tuple[NDArray[np.float64], NDArray[np.float64]]  # of `gain`


def pairs(frame: pd.DataFrame, contrast: tuple[str, str]) -> pd.DataFrame:
    """Instances that both methods found, a row an instance and seed, measures as `_a` and `_b`.

    `frame`: instances × runs of one backbone and supervised set, as in `ambiguity.csv`.
    """
    return _joined(frame, contrast).dropna(subset=["mask_iou_a", "mask_iou_b"])


def _joined(frame: pd.DataFrame, contrast: tuple[str, str]) -> pd.DataFrame:
    """As `pairs`, of all instances: what needs a detection is NaN where there is none."""
    keys = ["seed", "annotation_id", "image_id", "supervision", "ambiguity", "ambiguous"]
    a, b = (frame.loc[frame["method"] == method, [*keys, *MEASURES]] for method in contrast)
    return a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")


def gain(paired: pd.DataFrame, measure: str, seeds: Sequence[int], weights: NDArray) -> Gain:
    """Means of `measure` by seed, and their means over the seeds by resample.

    Args:
        paired: as of `pairs`, both values known; column `image` is the index in `weights`.
        measure: one of MEASURES.
        weights: (B, images) of `bootstrap.image_weights`.

    Returns:
        (seeds, 2) and (B, 2): of a and b; NaN where there is no instance.
    """
    means, draws, size = [], [], weights.shape[1]
    for seed in seeds:
        rows = paired[paired["seed"] == seed]
        sums = [np.bincount(rows["image"], rows[f"{measure}_{m}"], size) for m in "ab"]
        total = np.stack(sums, axis=1)
        counts = np.bincount(rows["image"], minlength=size)[:, None]
        means.append(_ratio(total.sum(0), counts.sum(0)))
        draws.append(_ratio(weights @ total, weights @ counts))
    return np.reshape(means, (-1, 2)), np.sum(draws, axis=0) / max(1, len(draws))


def _ratio(sums: NDArray, counts: NDArray) -> NDArray[np.float64]:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def effect_table(
    frame: pd.DataFrame, ap: pd.DataFrame, image_ids: Sequence[int], *, resamples: int, seed: int
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
    rows: list[Row] = []
    for key, paired in _all_pairs(frame, image_ids):
        for classes, measure in product(CLASSES, MEASURES):
            about = key | {"classes": classes, "measure": measure}
            chosen = paired[paired["supervision"] == classes]
            rows += [about | row for row in _effect(chosen, measure, weights)]
        about = key | {"classes": "novel", "measure": AP}
        rows += [about | row for row in _ap_effect(ap, key)]
    return pd.DataFrame(rows, columns=_EFFECT)


def _all_pairs(
    frame: pd.DataFrame, image_ids: Sequence[int]
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Backbone, supervised set and contrast, all instances, with the column `image` of `gain`."""
    position = pd.Series(range(len(image_ids)), index=list(image_ids))
    backbones = with_others(frame["backbone"].unique())
    for backbone, supervised, contrast in product(backbones, DIRECTIONS, CONTRASTS):
        chosen = frame[(frame["backbone"] == backbone) & (frame["supervised"] == supervised)]
        paired = _joined(chosen, contrast)
        key = {"backbone": backbone, "supervised": supervised, "contrast": "-".join(contrast)}
        yield key, paired.assign(image=paired["image_id"].map(position).astype(int))


def _effect(paired: pd.DataFrame, measure: str, weights: NDArray) -> list[Row]:
    seeds = sorted(paired["seed"].unique())
    known = paired.dropna(subset=[f"{measure}_a", f"{measure}_b"])
    ambiguous = known["ambiguous"].astype(bool)
    groups = known[ambiguous], known[~ambiguous]
    return _rows([gain(rows, measure, seeds, weights) for rows in groups], [*groups, known])


def _ap_effect(ap: pd.DataFrame, key: Mapping[str, str]) -> list[Row]:
    chosen = ap[(ap["backbone"] == key["backbone"]) & (ap["supervised"] == key["supervised"])]
    table = chosen.pivot_table(index="seed", columns=["group", "method"], values=AP)
    wanted = list(product(GROUPS[:2], key["contrast"].split("-")))
    table = table.reindex(columns=pd.MultiIndex.from_tuples(wanted)).dropna() / 100
    gains = [(table[group].to_numpy(float), np.empty((0, 2))) for group in GROUPS[:2]]
    return _rows(gains, [pd.DataFrame(columns=["image_id"])] * len(GROUPS))


def _rows(gains: Sequence[Gain], members: Sequence[pd.DataFrame]) -> list[Row]:
    """A row a group, the last the difference."""
    (a, a_draws), (b, b_draws) = gains
    found = zip(GROUPS, (*gains, (a - b, a_draws - b_draws)), members, strict=True)
    return [{"group": group} | _summary(*one, rows) for group, one, rows in found]


def _summary(means: NDArray, draws: NDArray, members: pd.DataFrame) -> Row:
    """In percent, of `gain`; without a seed nothing but zeros: not run."""
    row = {"seeds": len(means), "images": members["image_id"].nunique()}
    if not len(means):
        return row | {"instances": 0}
    by_seed, drawn = means[:, 0] - means[:, 1], draws[:, 0] - draws[:, 1]
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) > 1 else (np.nan, np.nan)
    sd = by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan
    values = *means.mean(axis=0), by_seed.mean(), low, high, sd
    percent = {name: 100 * float(v) for name, v in zip(_VALUES, values, strict=False)}
    return row | percent | {"instances": round(len(members) / len(means))}


def bin_table(
    frame: pd.DataFrame, image_ids: Sequence[int], *, resamples: int, seed: int
) -> pd.DataFrame:
    """Gain in mask IoU of novel instances by bins of ambiguity: the data of the figure.

    Bins are (low, high] of BINS, the first with 0 included. Columns: backbone, supervised,
    contrast, bin_low, bin_high, ambiguity (mean), then as `effect_table`. Bins without an
    instance, and runs that were not made, have no row.
    """
    weights = image_weights(len(image_ids), resamples, seed)
    rows = []
    for key, every in _all_pairs(frame[frame["supervision"] == "novel"], image_ids):
        paired = every.dropna(subset=["mask_iou_a", "mask_iou_b"])
        x, seeds = paired["ambiguity"], sorted(paired["seed"].unique())
        for low, high in pairwise(BINS):
            group = paired[((x > low) | (low == 0)) & (x <= high)]
            if len(group):
                about = key | {
                    "bin_low": low,
                    "bin_high": high,
                    "ambiguity": group["ambiguity"].mean(),
                }
                found = gain(group, "mask_iou", seeds, weights)
                rows.append(about | _summary(*found, group))
    return pd.DataFrame(rows, columns=_BINS).drop(columns="images")
