"""Trainings repeated with other seeds: how much of a gain is the training's own noise."""

from collections.abc import Iterable

import pandas as pd
from scipy import stats

from study.format import interval, number, p_text, signed
from study.labels import BASELINE, DIRECTIONS, OURS
from study.report.blocks import Table
from study.report.render import render

CHOSEN_ON = 0  # the seed with which iterations and learning rate were chosen


def gains(per_class: pd.DataFrame) -> pd.DataFrame:
    """Gain of OPMask in mask AP of novel classes, percent: a row a direction, a column a seed that
    both methods have. `per_class`: of one backbone and schedule, as of `results.read_per_class`."""
    novel = per_class.query("supervision == 'novel' and task == 'segm'")
    ap = novel.pivot_table(index=["supervised", "method"], columns="seed", values="AP")
    gap = ap.xs(OURS, level="method") - ap.xs(BASELINE, level="method")
    return gap.loc[[split for split in DIRECTIONS if split in gap.index]].dropna(axis="columns")


def seeds_page(per_class: pd.DataFrame, scale: str) -> str:
    """The page, of the experiment's `per_class.csv`."""
    found = gains(per_class)
    others = found.drop(columns=CHOSEN_ON, errors="ignore")
    fairer = [
        f"{DIRECTIONS[str(split)]} {signed(ap, 2)}" for split, ap in others.mean(axis=1).items()
    ]
    return render(
        "seeds.md.j2",
        scale=scale,
        seeds=list(found),
        chosen_on=CHOSEN_ON,
        runs=sorted({name for name in per_class["run"] if name.count("-") == 2}),
        ahead=_ahead(found.stack()),
        ahead_otherwise=_ahead(others.stack()),
        gains=_table(found),
        fairer="; ".join(fairer),
    )


def _ahead(gap: Iterable[float]) -> str:
    """`4 of 4 pairs of trainings (p = .125, sign test)`."""
    values = list(gap)
    ahead = sum(value > 0 for value in values)
    p = float(stats.binomtest(ahead, len(values)).pvalue) if values else 1.0
    return f"{ahead} of {len(values)} pairs of trainings (two-sided sign test, p {p_text(p)})"


def _table(found: pd.DataFrame) -> Table:
    rows = []
    for split, row in found.iterrows():
        mean, sd = float(row.mean()), float(row.std())
        low, high = stats.t.interval(0.95, len(row) - 1, mean, stats.sem(row))
        rows.append(
            {"Gain in mask AP of novel classes": DIRECTIONS[str(split)]}
            | {f"seed {seed}": signed(value, 2) for seed, value in row.items()}
            | {"mean ± standard deviation": f"{signed(mean, 2)} ± {number(sd, 2)}"}
            | {"95 % interval over seeds": interval(low, high)}
        )
    return Table(pd.DataFrame(rows))
