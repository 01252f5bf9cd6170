"""The paper's main comparison, OPMask against its baseline on novel classes, from Table 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import Any, Literal

import pandas as pd

from study.analysis import noise
from study.analysis.estimate import NAN, Estimate
from study.labels import DIFFERENCE, DIRECTIONS, METHODS, NOT_RUN, place, shown_backbones

Verdict = Literal["shown", "undecided", "reversed", "not run"]
_VERDICTS: dict[str, Verdict] = {"above": "shown", "around": "undecided", "below": "reversed"}


@dataclass(frozen=True, kw_only=True)
class Comparison(Estimate):
    """The gain of OPMask, its value, in mask AP of novel classes, percent, and the two APs; NaN if
    not run; the paper's gain, NaN of a backbone that it does not have. `name` is of `labels.place`.
    """

    backbone: str
    supervised: str
    baseline: float = NAN
    opmask: float = NAN

    gain = property(attrgetter("value"))
    paper_gain = property(attrgetter("paper"))

    @property
    def verdict(self) -> Verdict:
        """Where the interval of the gain lies that has the noise between trainings too; where that
        is not known, nothing is decided."""
        return _VERDICTS.get(self.whole().side_of(), "undecided") if self.ran else NOT_RUN


def backbones_run(table: pd.DataFrame) -> list[str]:
    """The backbones of which `table`, with columns backbone and seeds, has a run."""
    return list(table.loc[table["seeds"] > 0, "backbone"].unique())


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` to show people, see `shown_backbones`."""
    return table[table["backbone"].isin(shown_backbones(backbones_run(table)))]


def comparisons(table: pd.DataFrame, gains: Sequence[pd.DataFrame] = ()) -> list[Comparison]:
    """The comparisons of Table 1, in the paper's order, then of other backbones.

    `table` is of `table1`; `gains`: the `gains.csv` of experiments at its scale, for the noise
    between trainings where its own runs do not have several seeds. Raises KeyError if it lacks a
    method's row.
    """
    novel = table.query("classes == 'novel' and task == 'segm' and metric == 'AP'")
    novel = novel.set_index(["backbone", "supervised", "method"]).sort_index()
    found, between = [], noise.of_rows(novel.xs(DIFFERENCE, level="method"), "of this report")
    if gains and not between.known:
        between = noise.of_gains(pd.concat(gains), "repeated")
    for backbone, supervised in product(shown_backbones(backbones_run(table)), DIRECTIONS):
        rows = novel.loc[backbone, supervised]
        methods = rows.loc[list(METHODS.values())]
        known: dict[str, Any] = {"backbone": backbone, "supervised": supervised}
        known |= dict(zip(("baseline", "opmask"), methods["ours"], strict=True))
        name, seeds = place(backbone, supervised), int(methods["seeds"].min())
        one = Comparison.of(rows.loc[DIFFERENCE], "ours", name, seeds=seeds, noise=between, **known)
        found.append(one)
    return found
