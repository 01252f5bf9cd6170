"""Trainings repeated with other seeds: how much of a gain is the training's own noise."""

from collections.abc import Iterable

import pandas as pd
from scipy import stats

from study.format import interval, number, p_text, signed
from study.labels import BASELINE, DIRECTIONS, OURS
from study.report.blocks import Block, Bullets, Table

CHOSEN_ON = 0  # the seed with which iterations and learning rate were chosen


def gains(per_class: pd.DataFrame) -> pd.DataFrame:
    """Gain of OPMask in mask AP of novel classes, percent: a row a direction, a column a seed that
    both methods have. `per_class`: of one backbone and schedule, as of `results.read_per_class`."""
    novel = per_class.query("supervision == 'novel' and task == 'segm'")
    ap = novel.pivot_table(index=["supervised", "method"], columns="seed", values="AP")
    gap = ap.xs(OURS, level="method") - ap.xs(BASELINE, level="method")
    return gap.loc[[split for split in DIRECTIONS if split in gap.index]].dropna(axis="columns")


def blocks(per_class: pd.DataFrame, scale: str) -> list[Block]:
    """The page, of the experiment's `per_class.csv`."""
    found = gains(per_class)
    seeds, others = list(found), [seed for seed in found if seed != CHOSEN_ON]
    fairer = "; ".join(
        f"{DIRECTIONS[split]} {signed(row[others].mean(), 2)}" for split, row in found.iterrows()
    )
    names = sorted({name for name in per_class["run"] if name.count("-") == 2})
    return [
        f"Runs of Table 1 at scale `{scale}`, each trained {len(seeds)} times (seeds "
        f"{', '.join(map(str, seeds))}; data and warm start are the same): how much of a gain is "
        "the training's own noise?",
        f"```sh\nuv run dvc exp run -S 'seeds=[{','.join(map(str, seeds))}]' \\\n"
        f"  -S 'runs=[{','.join(names)}]'\n```",
        Bullets(
            [
                "[table1.md](table1.md): means with the spread over seeds, and gains with "
                "intervals over images.",
                "[contrasts.md](contrasts.md): the same gains with the spread of their differences "
                "over seeds, and intervals over images and over classes. Rows of runs that take no "
                'part are "not run".',
                "[per_class.csv](per_class.csv): every class of every run.",
            ]
        ),
        f"What it says: **OPMask is ahead of its baseline in {_ahead(found.stack())}**. Settings "
        f"were chosen with seed {CHOSEN_ON}; of the other seeds it is in "
        f"{_ahead(found[others].stack())}.",
        _table(found),
        f"How large a gain is, {len(seeds)} trainings do not say: the intervals are Student's over "
        f"the seeds. Seed {CHOSEN_ON}, of which the report of [{scale}](../../{scale}/README.md) "
        "is made, had a part in choosing iterations and learning rate; the others had none, and "
        f"are the fairer estimate: {fairer}.",
    ]


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
