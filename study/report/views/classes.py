"""The data of the per-class explorer, small enough to stand in the page as JSON."""

from typing import Any

import pandas as pd

from study.labels import MODELS
from study.spec.results import METRICS

_RUN = ["method", "backbone", "supervised", "schedule"]


def explorer_data(per_class: pd.DataFrame | None) -> dict[str, Any]:
    """Per-class AP by configuration, mean over seeds; empty if there is none.

    Args:
        per_class: `per_class.csv`, columns of `results.read_per_class`.

    Returns:
        metrics; labels of methods; categories: names; runs: method, backbone, supervised, schedule
        and seeds (their number) of each configuration; results, one a run × task, as lists:
        run (index), task, and by category (index) its objects, whether it is novel there, and
        its metrics. Numbers that there are not are null.
    """
    if per_class is None or per_class.empty:
        return {}
    categories = per_class[["category_id", "category"]].drop_duplicates("category_id")
    index = {number: n for n, number in enumerate(categories["category_id"])}
    runs, results = [], []
    for key, rows in per_class.groupby(_RUN, sort=False):
        seeds = int(rows["seed"].nunique())
        runs.append(dict(zip(_RUN, map(str, key), strict=True)) | {"seeds": seeds})
        for task, of_task in rows.groupby("task", sort=False):
            results.append([len(runs) - 1, task, _by_class(of_task, index)])
    return {
        "metrics": METRICS,
        "labels": {m: MODELS.get(m, m) for m in per_class["method"].unique()},
        "categories": categories["category"].astype(str).tolist(),
        "runs": runs,
        "results": results,
    }


def _by_class(rows: pd.DataFrame, index: dict[int, int]) -> list[list]:
    classes = rows.groupby("category_id", sort=False)
    numbers = classes[METRICS].mean().astype(float).round(2)
    about = classes[["instances", "supervision"]].first()
    table = about.assign(supervision=about["supervision"].eq("novel").astype(int)).join(numbers)
    values = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return [[index[number], *line] for number, line in zip(table.index, values, strict=True)]
