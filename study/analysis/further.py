"""Contrasts of runs that the paper does not have: your own splits, classes and backbones.

The same three questions as of the paper's runs: what OPMask gains over its baseline, and how much
of that the prior and the deeper mask head give, each with the intervals of
`study.analysis.contrasts`.
"""

import math
from collections.abc import Collection, Sequence

import pandas as pd

from study import format as markdown
from study.analysis.comparison import interval
from study.analysis.contrasts import CONTRASTS, Contrast
from study.spec.run import Run

# name of the question: (claim, method A, method B)
QUESTIONS = {
    "gain": ("OPMask against its baseline", "opmask", "maskrcnn"),
    "prior": ("The prior, at equal depth of the mask head", "opmask", "maskrcnn7"),
    "depth": ("Three more mask convolutions, without the prior", "maskrcnn7", "maskrcnn"),
}
CLAIMS = frozenset(claim for claim, _, _ in QUESTIONS.values())


def further_contrasts(
    runs: Sequence[Run], declared: Collection[Contrast] = CONTRASTS
) -> tuple[Contrast, ...]:
    """QUESTIONS of every backbone and split of which `runs` has both methods, but the declared."""
    known = {(contrast.a, contrast.b) for contrast in declared}
    made = {f"{run.method}-{run.backbone}-{run.supervised}" for run in runs}
    places = dict.fromkeys((run.backbone, run.supervised) for run in runs)
    found = []
    for backbone, split in places:
        for name, (claim, *methods) in QUESTIONS.items():
            a, b = (f"{method}-{backbone}-{split}" for method in methods)
            if {a, b} <= made and (a, b) not in known:
                classes = "all" if split == "all" else "novel"
                found.append(Contrast(f"{name} {backbone} {split}", claim, a, b, classes, ""))
    return tuple(found)


def of_further(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `contrast_table` that are of `further_contrasts`."""
    return table[table["claim"].isin(CLAIMS)]


def sentences(table: pd.DataFrame) -> list[str]:
    """What the gains among the rows of `of_further` say, one sentence each."""
    gains = table[table["claim"] == QUESTIONS["gain"][0]]
    return [_sentence(row) for row in gains.to_dict("records")]


def _sentence(row: dict) -> str:
    _, backbone, split = row["a"].split("-")
    where = f"{backbone}, masks of `{split}`"
    if math.isnan(row["difference"]):
        return f"{where}: not run."
    verb = "loses" if row["difference"] < 0 else "gains"
    text = (
        f"{where}: OPMask {verb} {abs(row['difference']):.2f} AP against the baseline on "
        f"{row['tested']} {row['classes']} classes ({markdown.number(row['value_b'], 2)} → "
        f"{markdown.number(row['value_a'], 2)})"
    )
    if math.isnan(row["low"]):
        return f"{text}; too few images for an interval."
    includes = row["low"] <= 0 <= row["high"]
    verdict = "which includes 0: undecided" if includes else "which excludes 0"
    return f"{text}; 95 % interval {interval(row['low'], row['high'])}, {verdict}."
