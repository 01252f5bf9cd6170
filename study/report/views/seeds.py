"""Trainings repeated with other seeds: how much of a gain is the training's own noise."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy import stats

from study.analysis.estimate import student_half
from study.format import interval, number, p_text, signed
from study.labels import BASELINE, DIRECTIONS, OURS
from study.report.blocks import Block, Table
from study.report.render import render
from study.report.words import WORDS


def gains(per_class: pd.DataFrame, scale: str) -> pd.DataFrame:
    """`gains.csv`: gain of OPMask in mask AP of novel classes, percent.

    `per_class`: of one backbone and schedule, as of `results.read_per_class`. Columns: scale,
    backbone, supervised, seed (one that both methods have in both directions), gain.
    """
    novel = per_class.query("supervision == 'novel' and task == 'segm'")
    keys = ["backbone", "supervised", "method"]
    ap = novel.pivot_table(index=keys, columns="seed", values="AP")
    gap = ap.xs(OURS, level="method") - ap.xs(BASELINE, level="method")
    gap = gap.reindex(DIRECTIONS, level="supervised").dropna(axis="columns")
    rows = gap.stack().rename("gain").reset_index()
    return rows.assign(scale=scale)[["scale", *keys[:2], "seed", "gain"]]


def ahead(rows: pd.DataFrame) -> str:
    """`4 of 4 pairs of trainings (two-sided sign test, p = .125)`."""
    wins, count = int((rows["gain"] > 0).sum()), len(rows)
    p = float(stats.binomtest(wins, count).pvalue) if count else 1.0
    return f"{wins} of {count} pairs of trainings (two-sided sign test, p {p_text(p)})"


def spread(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Of each direction: backbone, supervised, mean, sd, and Student's 95 % interval over seeds."""
    found = rows.groupby(["backbone", "supervised"], sort=False)["gain"].agg(
        ["mean", "std", "size"]
    )
    half = [student_half(one.std, one.size) for one in found.itertuples()]
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
    return found.rename(columns={"std": "sd"}).reset_index().to_dict("records")


def seeds_page(
    rows: pd.DataFrame,
    runs: list[str],
    scale: str,
    controls: Sequence[Block] = (),
    rivals: bool = False,
) -> str:
    """The page of an experiment.

    rows: of `gains`. runs: names of those that were trained. controls: what stands below their
    figure, if there are any. rivals: whether `rivals.md` is beside it.
    """
    return render(
        "seeds.md.j2",
        scale=scale,
        seeds=sorted(rows["seed"].unique()),
        runs=runs,
        ahead=ahead(rows),
        gains=_table(rows),
        controls=controls,
        rivals=rivals,
        words=WORDS["figures"]["controls"],
    )


def _table(rows: pd.DataFrame) -> Table:
    gap = rows.pivot_table(index="supervised", columns="seed", values="gain", sort=False)
    lines = [
        {"Gain in mask AP of novel classes": DIRECTIONS[one["supervised"]]}
        | {f"seed {seed}": signed(value, 2) for seed, value in gap.loc[one["supervised"]].items()}
        | {"mean ± standard deviation": f"{signed(one['mean'], 2)} ± {number(one['sd'], 2)}"}
        | {"95 % interval over seeds": interval(one["low"], one["high"])}
        for one in spread(rows)
    ]
    return Table(pd.DataFrame(lines))
