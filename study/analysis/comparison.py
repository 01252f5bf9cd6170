"""The paper's main comparison, OPMask against its baseline on novel classes, and its verdict."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from study import format as markdown


class _Labels(dict[str, str]):
    """Names for people; of a backbone that the paper does not have, by its key in params.yaml."""

    def __missing__(self, name: str) -> str:
        return f"{name}-FPN"


BACKBONES = _Labels({"R50": "R-50-FPN", "R101": "R-101-FPN"})  # the paper's
METHODS = {"maskrcnn": "Our Mask R-CNN", "opmask": "OPMask"}
DIRECTIONS = {"nonvoc": "non-voc → voc", "voc": "voc → non-voc"}  # by supervised set
DIFFERENCE = "difference"
BASELINE, OURS = "maskrcnn", "opmask"
NOT_RUN = "not run"


def with_others(names: Iterable[str]) -> list[str]:
    """The paper's backbones, then the others among `names`."""
    return list(dict.fromkeys([*BACKBONES, *names]))


def shown_backbones(ran: Iterable[str]) -> list[str]:
    """Those to show people: without the paper's where only others `ran`."""
    names = with_others(ran)
    others = names[len(BACKBONES) :]
    return others if others and not set(BACKBONES) & set(ran) else names


@dataclass(frozen=True)
class Comparison:
    """OPMask against the baseline on novel classes: mask AP in percent, NaN if not run."""

    backbone: str
    supervised: str
    baseline: float
    opmask: float
    gain: float
    low: float
    high: float
    paper_gain: float
    seeds: int

    @property
    def name(self) -> str:
        """For example `R-50-FPN, voc → non-voc`."""
        return f"{BACKBONES[self.backbone]}, {DIRECTIONS[self.supervised]}"

    @property
    def verdict(self) -> str:
        """shown | undecided | reversed | not run: where the interval of the gain lies."""
        if self.low > 0:
            return "shown"
        if self.high < 0:
            return "reversed"
        return "undecided" if self.low <= 0 <= self.high else NOT_RUN

    def sentence(self) -> str:
        """The finding with its numbers, whichever way it went."""
        if self.verdict == NOT_RUN:
            return f"{self.name}: {NOT_RUN}."
        meaning = _MEANINGS[self.verdict]
        paper = f" (paper: {markdown.signed(self.paper_gain)})"
        if math.isnan(self.paper_gain):
            paper = " (the paper has no such backbone)"
        verb = "loses" if self.gain < 0 else "gains"
        return (
            f"{self.name}: OPMask {verb} {abs(self.gain):.2f} AP against the baseline "
            f"({markdown.number(self.baseline, 2)} → {markdown.number(self.opmask, 2)}); 95 % "
            f"interval {interval(self.low, self.high)}, {meaning}{paper}."
        )


_MEANINGS = {
    "shown": "above 0: the paper's gain is reproduced in sign",
    "undecided": "includes 0: the paper's gain is neither reproduced nor refuted",
    "reversed": "below 0: the paper's gain did **not** reproduce",
}


def backbones_run(table: pd.DataFrame) -> list[str]:
    """The backbones of which `table`, with columns backbone and seeds, has a run."""
    return list(table.loc[table["seeds"] > 0, "backbone"].unique())


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` to show people, see `shown_backbones`."""
    return table[table["backbone"].isin(shown_backbones(backbones_run(table)))]


def comparisons(table: pd.DataFrame) -> list[Comparison]:
    """The comparisons of Table 1, in the paper's order, then of other backbones.

    `table` is of `table1`.
    """
    novel = table.query("classes == 'novel' and task == 'segm' and metric == 'AP'")
    novel = novel.set_index(["backbone", "supervised", "method"]).sort_index()
    found = []
    for backbone in shown_backbones(backbones_run(table)):
        for supervised in DIRECTIONS:
            rows = novel.loc[backbone, supervised]
            gain, methods = rows.loc[DIFFERENCE], rows.loc[list(METHODS.values())]
            found.append(
                Comparison(
                    backbone,
                    supervised,
                    *methods["ours"],
                    gain=gain["ours"],
                    low=gain["low"],
                    high=gain["high"],
                    paper_gain=gain["paper"],
                    seeds=int(methods["seeds"].min()),
                )
            )
    return found


def headline(found: Sequence[Comparison], scale: str) -> str:
    """One sentence that sums up the comparisons of a scale, whichever way they went."""
    count = {verdict: 0 for verdict in ("shown", "undecided", "reversed", NOT_RUN)}
    for comparison in found:
        count[comparison.verdict] += 1
    ran = len(found) - count[NOT_RUN]
    if not ran:
        return f"At scale `{scale}` none of the {len(found)} comparisons of Table 1 was run."
    text = (
        f"At scale `{scale}` OPMask is ahead of its Mask R-CNN baseline in mask AP of novel "
        f"classes, with a 95 % interval above 0, in {count['shown']} of {ran} comparisons"
    )
    others = {
        "undecided": "undecided (the interval includes 0)",
        "reversed": "the other way round (the baseline is ahead)",
        NOT_RUN: "not run",
    }
    text += "".join(f"; {count[key]} {words}" for key, words in others.items() if count[key])
    return f"{text}."


def interval(low: float, high: float) -> str:
    """`+1.20 to +3.40`."""
    return f"{markdown.signed(low, 2)} to {markdown.signed(high, 2)}"
