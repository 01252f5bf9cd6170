"""What Tables 1 to 3 are made of: one number of ours beside the paper's, and differences of two.

In a tidy frame a number is the columns CELL.
"""

from pathlib import Path

import pandas as pd

from opmask.evaluation.bootstrap import Difference, paired_difference
from opmask.evaluation.coco_ap import Matches

NAN = float("nan")
CELL = ["ours", "sd", "seeds", "low", "high", "paper", "ours_minus_paper"]


def cell(values: pd.Series, published: float = NAN) -> dict[str, float]:
    """The columns CELL of one number of ours, from its `values` by training seed.

    ours (mean over seeds), sd (over seeds; NaN for one), seeds (0 = not run), low and high (95 %
    interval, NaN here), paper, ours_minus_paper.
    """
    ours = values.mean()
    row = {"ours": ours, "sd": values.std(), "seeds": len(values), "low": NAN, "high": NAN}
    return row | {"paper": published, "ours_minus_paper": ours - published}


def difference(
    a: pd.Series, b: pd.Series, published: float = NAN, gain: Difference | None = None
) -> dict[str, float]:
    """The columns CELL of a − b, each by training seed; `gain` gives the interval.

    The spread is over equal seeds, which share initialisation and image order.
    """
    ours, both = a.mean() - b.mean(), a.index.intersection(b.index)
    row = cell(a[both] - b[both], published) | {"ours": ours, "ours_minus_paper": ours - published}
    return row | ({"low": gain.low, "high": gain.high} if gain else {})


def by_seed(per_class: pd.DataFrame, metric: str = "AP") -> pd.Series:
    """`metric` of a class subset, percent, by seed, from the per-class rows of one method."""
    return per_class.groupby("seed")[metric].mean()


def bootstrapped_difference(
    folder: Path,
    a: pd.DataFrame,
    b: pd.DataFrame,
    published: float = NAN,
    *,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """The columns CELL of the difference in AP, a − b, with a paired bootstrap over images.

    Args:
        folder: where each run left `matches_<task>.npz`, in a folder of its key.
        a, b: per-class rows (`results.read_per_class`) of one task and of the class subset, of all
            seeds of one method; empty if not run.
        published: the paper's difference.
    """
    gain = None
    if len(a) and len(b):
        ids = sorted({int(i) for i in [*a["category_id"], *b["category_id"]]})
        runs = (_matches(folder, rows) for rows in (a, b))
        gain = paired_difference(*runs, ids, resamples=resamples, seed=seed)
    return difference(by_seed(a), by_seed(b), published, gain)


def _matches(folder: Path, per_class: pd.DataFrame) -> list[Matches]:
    keys = per_class[["run", "seed", "task"]].drop_duplicates().itertuples(index=False)
    return [
        Matches.load(folder / f"{run}-{seed}" / f"matches_{task}.npz") for run, seed, task in keys
    ]
