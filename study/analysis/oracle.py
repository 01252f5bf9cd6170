"""Mask quality in true boxes, run by run, from the tables of `opmask.evaluation.oracle`.

A number is a mean over objects, in percent. Every run and every floor is measured on the same
objects, so that differences are paired object by object; intervals are of a bootstrap over images
(`opmask.evaluation.bootstrap`), a second one over classes.

AP with perfect boxes takes the box head's probability of the true class for the score, and lets a
mask find the object of its box alone. Floors have no score, and so no AP.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from opmask.evaluation.bootstrap import LEVEL, data_and_draws, image_weights, p_value, spread
from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.weighted_ap import weighted_metrics
from opmask.integrity import is_sealed, verified
from study.analysis.estimate import NAN, Estimate
from study.analysis.resampling import Resampler
from study.spec.paths import ORACLE, floors

IOU = "iou"
SHARES = {"over50": 0.5, "over75": 0.75}  # of the objects: IoU of so much at least
RIGHT = "right"  # whether the box head takes the object for what it is
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's


@dataclass(frozen=True)
class Scores:
    """A measure of one configuration, or a difference of two, percent, object by object.

    mean: over seeds, by annotation id. by_seed: objects × seeds.
    """

    mean: pd.Series
    by_seed: pd.DataFrame

    def __sub__(self, other: "Scores") -> "Scores":
        """Of all objects; by seed of the seeds that both have.

        Raises ValueError if the two are not of the same objects.
        """
        if not self.mean.index.equals(other.mean.index):
            raise ValueError("runs to compare were not measured on the same objects")
        seeds = self.by_seed.columns.intersection(other.by_seed.columns)
        return Scores(self.mean - other.mean, self.by_seed[seeds] - other.by_seed[seeds])

    def above(self, floor: "Scores") -> "Scores":
        """What is above `floor`, which is the same for every seed."""
        return Scores(self.mean - floor.mean, self.by_seed.sub(floor.mean, axis="index"))


class Oracle:
    """The runs of a `Resampler` in true boxes; a configuration is METHOD-BACKBONE-SUPERVISED."""

    def __init__(self, runs: Resampler):
        self.runs = runs
        self._tables: dict[str, dict[int, pd.DataFrame]] = {}
        self._floors: dict[str, dict[str, dict[int, pd.DataFrame]]] = {}

    def tables(self, name: str) -> dict[int, pd.DataFrame]:
        """By seed, a row an object, indexed by annotation id; empty if not run or without masks."""
        if name not in self._tables:
            rows = self.runs.rows(name)[["run", "seed"]].drop_duplicates()
            folders = {s: self.runs.folder / f"{run}-{s}" for run, s in rows.to_numpy().tolist()}
            found = {seed: read(folder) for seed, folder in folders.items()}
            self._tables[name] = {seed: one for seed, one in found.items() if len(one)}
        return self._tables[name]

    def floors(self, supervised: str, measure: str = IOU) -> dict[str, Scores]:
        """`scores` of each of `opmask.evaluation.floors.FLOORS` with these supervised classes."""
        if supervised not in self._floors:
            table = read(self.runs.folder / floors(supervised))
            parts = table.groupby("floor", sort=False) if len(table) else ()
            self._floors[supervised] = {str(name): {0: part} for name, part in parts}
        found = self._floors[supervised]
        return {name: _scores(tables, measure) for name, tables in found.items()}

    def scores(self, name: str, measure: str = IOU) -> Scores | None:
        """A column of the tables, or one of SHARES or RIGHT; None if not run."""
        tables = self.tables(name)
        return _scores(tables, measure) if tables else None

    def objects(self, category_ids: Collection[int]) -> pd.Index:
        """Annotation ids of these classes."""
        return self.identity.index[self.identity["category_id"].isin(category_ids)]

    @cached_property
    def identity(self) -> pd.DataFrame:
        """The objects, by annotation id: image_id, category_id, area. Empty if nothing was run."""
        names = self.runs.names
        first = next((t for name in names for t in self.tables(name).values()), pd.DataFrame())
        return first.reindex(columns=["image_id", "category_id", "area"])

    def estimate(self, scores: Scores, objects: pd.Index) -> Estimate:
        """Mean over `objects` (annotation ids), with interval and p, and its spread over seeds."""
        seeds = scores.by_seed.loc[objects].mean()
        draws = self._draws(scores.mean[objects])
        sd, (low, high), p = float(seeds.std()), spread(draws), p_value(draws)
        return Estimate("", float(draws[0]), low, high, sd=sd, seeds=len(seeds), p=p)

    def by_class(self, scores: Scores, objects: pd.Index) -> Estimate:
        """As `estimate`, of the mean over the classes of `objects`, which count alike, as in AP.

        A class of which a resample has no object is left out of it.
        """
        classes = self.identity["category_id"][objects]
        parts = np.array([self._draws(one) for _, one in scores.mean[objects].groupby(classes)])
        there = (~np.isnan(parts)).sum(axis=0)
        nothing = np.full(len(there), np.nan)
        draws = np.divide(np.nansum(parts, axis=0), there, out=nothing, where=there > 0)
        low, high = spread(draws)
        return Estimate("", float(draws[0]), low, high, p=p_value(draws))

    def class_interval(self, scores: Scores, objects: pd.Index) -> tuple[float, float]:
        """Percentile interval of the mean over `objects` of resampled classes."""
        groups = scores.mean[objects].groupby(self.identity["category_id"][objects])
        if groups.ngroups < 2:
            return NAN, NAN
        weights = image_weights(groups.ngroups, self.runs.resamples, self.runs.seed)
        means = weights @ groups.sum().to_numpy() / (weights @ groups.size().to_numpy())
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def ap(self, name: str, category_ids: Collection[int]) -> float:
        """Mask AP with perfect boxes, percent, mean over classes and seeds; NaN if not run."""
        found = []
        for table in self.tables(name).values():
            chosen = table[table["category_id"].isin(category_ids)]
            if len(chosen):
                matches = as_matches(chosen)
                every = np.ones((1, len(matches.image_ids)))
                found.append(weighted_metrics(matches, every)[0].mean())
        return float(np.mean(found)) if found else NAN

    @cached_property
    def _image(self) -> pd.Series:
        """Each object's column in `_weights`."""
        return self.identity["image_id"].rank(method="dense").astype(int) - 1

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        settings = {"resamples": self.runs.resamples, "seed": self.runs.seed}
        return data_and_draws(int(self._image.max()) + 1, **settings)

    def _draws(self, values: pd.Series) -> NDArray[np.float64]:
        """Means of `values` (by annotation id) by resample; NaN without an object."""
        image, images = self._image[values.index], self._weights.shape[1]
        sums, counts = (
            self._weights @ np.bincount(image, w, minlength=images)
            for w in (values.to_numpy(), np.ones(len(values)))
        )
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def as_matches(table: pd.DataFrame) -> Matches:
    """Objects with score and iou as matches of detections, each with the object of its box."""
    image_ids, image = np.unique(table["image_id"], return_inverse=True)
    category_ids, category = np.unique(table["category_id"], return_inverse=True)
    order = np.lexsort((image, -table["score"], category))
    found = table[IOU].to_numpy()[order, None] >= THRESHOLDS
    return Matches(
        image_ids=image_ids,
        category_ids=category_ids,
        iou_thresholds=THRESHOLDS,
        image=image[order].astype(np.int32),
        category=category[order].astype(np.int32),
        score=table["score"].to_numpy()[order],
        matched=found,
        ignored=np.zeros_like(found),
        gt_image=image.astype(np.int32),
        gt_category=category.astype(np.int32),
    )


def read(folder: Path) -> pd.DataFrame:
    """What stage `evaluate` left of a run, by annotation id; empty if there is none.

    Raises UserError if it is damaged.
    """
    path = folder / ORACLE
    if not path.is_file() and not is_sealed(folder):  # if missing there, that is damage
        return pd.DataFrame()
    return pd.read_csv(verified(path)).set_index("annotation_id")


def _scores(tables: dict[int, pd.DataFrame], measure: str = IOU) -> Scores:
    first, *others = (table.index for table in tables.values())
    if not all(map(first.equals, others)):
        raise ValueError("seeds of a run were not measured on the same objects")
    by_seed = pd.DataFrame({seed: _column(table, measure) for seed, table in tables.items()}) * 100
    return Scores(by_seed.mean(axis="columns"), by_seed)


def _column(table: pd.DataFrame, measure: str) -> ArrayLike:
    if measure in SHARES:
        return table[IOU] >= SHARES[measure]
    if measure == RIGHT:
        return table["predicted_id"] == table["category_id"]
    return table[measure]
