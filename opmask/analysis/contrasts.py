"""Paired contrasts between runs, one declared table of them (paper, sections 4.3 and 4.4).

What the paper says in a sentence (`claimed`), what its Table 1 only implies, and our control: a
baseline with OPMask's seven mask convolutions but no prior, which splits the paper's gain into a
deeper head and the prior. A contrast is the AP of run A minus that of run B, on the same validation
images and classes.

Each configuration's matches are resampled once, whatever number of contrasts it is part of; images
weigh as in `opmask.evaluation.bootstrap`, whose intervals these are. Two further errors stand
beside that of the images: between training seeds, and between classes, as if the classes tested had
been drawn from a larger set of their kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from opmask.analysis.comparison import NOT_RUN, interval
from opmask.evaluation.bootstrap import image_weights, weighted_ap
from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.results import evaluation_dir
from opmask.planning.plan import Run
from opmask.reporting import markdown

LEVEL = 0.95
NAN = float("nan")


@dataclass(frozen=True)
class Contrast:
    """AP of run `a` minus AP of run `b` (METHOD-BACKBONE-SUPERVISED), percent."""

    name: str
    claim: str
    a: str
    b: str
    classes: str  # novel | supervised | all
    section: str = "4.3"
    claimed: bool = False  # a sentence of the paper states it: a member of the Holm family
    paper: float = NAN
    task: str = "segm"


_GAIN = "OPMask improves over the baseline"
_DEPTH = "Control: what three more mask convolutions give without the prior"
_PRIOR = "Control: what the prior gives at equal depth of the mask head"
_DEEPER = "R-101 is better than R-50 (no sentence of the paper; Table 1's numbers)"

_GAINS = (("R50", "nonvoc", 10.1), ("R50", "voc", 13.0), ("R101", "nonvoc", 9.4),
          ("R101", "voc", 12.2))  # fmt: skip
_BACKBONES = (("opmask", "nonvoc", 0.6), ("opmask", "voc", 1.3), ("maskrcnn", "nonvoc", 1.3),
              ("maskrcnn", "voc", 2.1))  # fmt: skip

CONTRASTS = (
    *(Contrast(f"gain {b} {s}", _GAIN, f"opmask-{b}-{s}", f"maskrcnn-{b}-{s}", "novel", "4.3",
               True, paper) for b, s, paper in _GAINS),
    Contrast("gain voc20", f"{_GAIN}, 40 supervised classes (Figure 6; no number in the text)",
             "opmask-R50-voc20", "maskrcnn-R50-voc20", "novel", "4.3", True),
    Contrast("gain all", f"{_GAIN}, all classes supervised", "opmask-R50-all", "maskrcnn-R50-all",
             "all", "4.3", True, 1.6),
    Contrast("mask gradients", "Mask gradients into the box head improve mask AP",
             "opmask-R50-nonvoc", "opmask_detached-R50-nonvoc", "novel", "4.4", True, 1.1),
    Contrast("prior nonvoc", _PRIOR, "opmask-R50-nonvoc", "maskrcnn7-R50-nonvoc", "novel"),
    Contrast("prior voc", _PRIOR, "opmask-R50-voc", "maskrcnn7-R50-voc", "novel"),
    Contrast("depth nonvoc", _DEPTH, "maskrcnn7-R50-nonvoc", "maskrcnn-R50-nonvoc", "novel"),
    Contrast("depth voc", _DEPTH, "maskrcnn7-R50-voc", "maskrcnn-R50-voc", "novel"),
    *(Contrast(f"backbone {m} {s}", _DEEPER, f"{m}-R101-{s}", f"{m}-R50-{s}", "novel",
               paper=paper) for m, s, paper in _BACKBONES),
)  # fmt: skip


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
            images = len(matches.image_ids)
            drawn = image_weights(images, self.resamples, self.seed)
            ap = weighted_ap(matches, np.vstack([np.ones((1, images)), drawn]))
            by_seed[one.seed], total = ap[0], total + ap
        frame = pd.DataFrame.from_dict(by_seed, orient="index", columns=matches.category_ids)
        return Resampled(matches.category_ids, frame, total / len(runs))


def spread(draws: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """As `opmask.evaluation.bootstrap`: of (1 + resamples,) values, the estimate in row 0."""
    estimate, resampled = draws[0], draws[1:][~np.isnan(draws[1:])]
    if len(resampled) < 2:
        return NAN, NAN
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = estimate + np.quantile(resampled - resampled.mean(), tails)
    return float(low), float(high)


def p_value(draws: NDArray[np.float64]) -> float:
    """Two-sided bootstrap p of the estimate in row 0 against 0; never below 2 / (resamples + 1).

    The deviations of the draws from their mean stand for the estimate's under the null hypothesis,
    so p < .05 where, but for the last resample, the 95 % interval of `spread` excludes 0.
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


def contrast_table(resampler: Resampler, contrasts: Sequence[Contrast] = CONTRASTS) -> pd.DataFrame:
    """One row a contrast, in the order declared; AP in percent; `difference` NaN: not run.

    Columns: name, section, claim, claimed (a sentence of the paper says so), a, b (runs), classes
    (novel | supervised | all), tested (their number), task, metric (AP); value_a, value_b (mean
    over seeds), difference (a − b); low, high (95 %, paired bootstrap over images), p (two-sided,
    the same bootstrap), p_holm (Holm over the claimed contrasts that were run; NaN for others);
    class_low, class_high (95 %, bootstrap over classes); seeds (those that both runs have), sd (of
    the difference over these seeds, NaN for fewer than two); paper (its difference; NaN where it
    gives none).
    """
    table = pd.DataFrame([_row(resampler, contrast) for contrast in contrasts])
    table["p_holm"] = NAN
    family = table["claimed"] & table["p"].notna()
    if family.any():
        table.loc[family, "p_holm"] = multipletests(table.loc[family, "p"], method="holm")[1]
    columns = ["name", "section", "claim", "claimed", "a", "b", "classes", "tested", "task"]
    columns += ["metric", "value_a", "value_b", "difference", "low", "high", "p", "p_holm"]
    return table[[*columns, "class_low", "class_high", "seeds", "sd", "paper"]]


def _row(resampler: Resampler, contrast: Contrast) -> dict[str, object]:
    names = ("name", "section", "claim", "claimed", "a", "b", "classes", "task", "paper")
    row = {name: getattr(contrast, name) for name in names} | {"metric": "AP", "seeds": 0}
    numbers = ("value_a", "value_b", "difference", "low", "high", "p", "class_low", "class_high")
    row |= dict.fromkeys((*numbers, "sd"), NAN)
    ids = resampler.classes(contrast.a, contrast.classes)
    a, b = (resampler.ap(name, contrast.task) for name in (contrast.a, contrast.b))
    for side, one in (("value_a", a), ("value_b", b)):
        if one is not None:
            row[side] = float(one.subset(ids or resampler.classes(contrast.b, contrast.classes))[0])
    if a is None or b is None:
        return row | {"tested": len(ids)}
    draws = a.subset(ids) - b.subset(ids)
    by_class = (a.by_seed[ids].mean() - b.by_seed[ids].mean()).to_numpy()
    by_seed = (a.by_seed - b.by_seed)[ids].mean(axis="columns").dropna()  # pairs equal seeds
    row |= {"difference": float(draws[0]), "p": p_value(draws), "tested": len(ids)}
    row["low"], row["high"] = spread(draws)
    settings = {"resamples": resampler.resamples, "seed": resampler.seed}
    row["class_low"], row["class_high"] = class_interval(by_class, **settings)
    return row | {"seeds": len(by_seed), "sd": float(by_seed.std())}


def contrasts_markdown(table: pd.DataFrame) -> str:
    """`contrast_table` for people: the paper's sentences first, then the rest, then how to read."""
    headings = {
        True: "**What the paper states**",
        False: "**What it does not test**: the prior apart from the deeper mask head, and the "
        "backbones",
    }
    parts = []
    for claimed, heading in headings.items():
        rows = table[table["claimed"] == claimed]
        parts += [heading, markdown.table(pd.DataFrame(map(_line, rows.to_dict("records"))), 2)]
    return "\n\n".join([*parts, _NOTES])


_NOTES = (
    "Mask AP, percent. The interval and p are of a paired bootstrap over validation images: what "
    "other images would have given. The interval over classes says what other classes of the kind "
    "would have given. Neither covers the noise between trainings, which the spread (±, standard "
    "deviation) over seeds shows where there are several. p is two-sided and never below "
    "2 / (resamples + 1); p (Holm) is corrected over the paper's statements in this table that "
    "were run."
)


def _line(row: dict) -> dict[str, str]:
    ran = not math.isnan(row["difference"])
    gain = markdown.signed(row["difference"], 2) if ran else NOT_RUN
    return {
        "A": row["a"],
        "B": row["b"],
        "Classes": f"{row['tested']} {row['classes']}" if row["tested"] else row["classes"],
        "AP of A": markdown.number(row["value_a"], 2),
        "AP of B": markdown.number(row["value_b"], 2),
        "A − B": f"{gain} ± {row['sd']:.2f}" if row["seeds"] > 1 else gain,
        "95 %, images": interval(row["low"], row["high"]) if ran else markdown.MISSING,
        "95 %, classes": interval(row["class_low"], row["class_high"]) if ran else markdown.MISSING,
        "p": markdown.number(row["p"], 3),
        "p (Holm)": markdown.number(row["p_holm"], 3),
        "Seeds": str(row["seeds"]) if ran else markdown.MISSING,
        "Paper": markdown.signed(row["paper"]),
    }
