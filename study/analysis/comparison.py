"""The paper's main comparison, OPMask against its baseline on novel classes, from Table 1."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from study.analysis.estimate import NAN, Estimate
from study.labels import DIFFERENCE, DIRECTIONS, METHODS, NOT_RUN, place, shown_backbones

Verdict = Literal["shown", "undecided", "reversed", "not run"]
_VERDICTS: dict[str, Verdict] = {"above": "shown", "around": "undecided", "below": "reversed"}


@dataclass(frozen=True, kw_only=True)
class Comparison(Estimate):
    """The gain of OPMask in mask AP of novel classes, percent, and the two APs; NaN if not run.

    `name` is of `labels.place`.
    """

    backbone: str
    supervised: str
    baseline: float = NAN
    opmask: float = NAN

    @property
    def gain(self) -> float:
        """OPMask − baseline."""
        return self.value

    @property
    def paper_gain(self) -> float:
        """The paper's, NaN of a backbone that it does not have."""
        return self.paper

    @property
    def verdict(self) -> Verdict:
        """Where the interval of the gain lies."""
        return _VERDICTS.get(self.side_of(), NOT_RUN)


def backbones_run(table: pd.DataFrame) -> list[str]:
    """The backbones of which `table`, with columns backbone and seeds, has a run."""
    return list(table.loc[table["seeds"] > 0, "backbone"].unique())


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` to show people, see `shown_backbones`."""
    return table[table["backbone"].isin(shown_backbones(backbones_run(table)))]


def comparisons(table: pd.DataFrame) -> list[Comparison]:
    """The comparisons of Table 1, in the paper's order, then of other backbones.

    `table` is of `table1`. Raises KeyError if it lacks a method's row.
    """
    novel = table.query("classes == 'novel' and task == 'segm' and metric == 'AP'")
    novel = novel.set_index(["backbone", "supervised", "method"]).sort_index()
    found = []
    for backbone in shown_backbones(backbones_run(table)):
        for supervised in DIRECTIONS:
            rows = novel.loc[backbone, supervised]
            methods = rows.loc[list(METHODS.values())]
            baseline, opmask = methods["ours"]
            found.append(
                Comparison.of(
                    rows.loc[DIFFERENCE],
                    "ours",
                    place(backbone, supervised),
                    seeds=int(methods["seeds"].min()),
                    backbone=backbone,
                    supervised=supervised,
                    baseline=baseline,
                    opmask=opmask,
                )
            )
    return found
