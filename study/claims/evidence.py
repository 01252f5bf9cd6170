"""What claims are tested on: `evidence.yaml`, and the functions that make cells of other kinds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import product, zip_longest
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from study import paper
from study.analysis.estimate import (
    ALPHA,
    CLASSES,
    NAN,
    NOTHING,
    RUNS,
    Estimate,
    Noise,
    correlation,
    mean_over_classes,
)
from study.claims import load
from study.claims.sources import OF_REPORT, OURS, Pool, Rows, Table, Tables, points_of, with_noise
from study.labels import BASELINE, DIFFERENCE, DIRECTIONS, MODELS


@dataclass(frozen=True)
class Evidence:
    """Where the numbers are from, how their intervals came about, in which unit, and the cells.

    second: the same cells in another metric, as far as the table has them; `metric` in words.
    """

    source: str
    test: str
    cells: Callable[[Tables], Sequence[Estimate]]
    unit: str = "AP"
    kind: str = OURS
    second: Callable[[Tables], Sequence[Estimate]] = lambda _: ()


_ABOUT = ("source", "test", "unit", "kind")
DECLARED = load("evidence")
_PAIRS = [Pool(**declared) for declared in DECLARED["contrasts"]["noise"]]


def evidence(given: str | Mapping[str, Mapping[str, Any]]) -> Evidence:
    """What `evidence` of a claim says: a name in `evidence.yaml`, or that with arguments.

    Raises ValueError if there is no such name.
    """
    ((name, arguments),) = ({given: {}} if isinstance(given, str) else given).items()
    if name not in DECLARED:
        raise ValueError(f"claims.yaml: {name!r} is none of evidence.yaml's {', '.join(DECLARED)}")
    declared = DECLARED[name]
    parts = declared if isinstance(declared, list) else [declared]
    about = {key: parts[0][key] for key in _ABOUT if key in parts[0]}

    def alternate(parts: Sequence[Mapping[str, Any]], tables: Tables) -> list[Estimate]:
        table = tables.table(about["source"])
        turns = zip_longest(*(_maker(one)(table, **arguments) for one in parts))
        return [cell for turn in turns for cell in turn if cell is not None]

    second = [
        {**one, "rows": {**one["rows"], **one["second"]}, "optional": True}
        for one in parts
        if "second" in one
    ]
    return Evidence(cells=partial(alternate, parts), second=partial(alternate, second), **about)


def contrast(
    row: Mapping[Any, Any], contrasts: pd.DataFrame, repeated: Mapping[str, pd.DataFrame]
) -> Estimate:
    """A row of `contrasts.csv` with its noise, as the claims have it; `repeated`: that table of
    experiments at the same scale, by name."""
    frames = [(contrasts, OF_REPORT), *((one, f"experiment {n}") for n, one in repeated.items())]
    found = (pool.of(frame, origin, row) for pool in _PAIRS for frame, origin in frames)
    between = next((one for one in found if one.known), Noise())
    return replace(Estimate.of(row, "difference"), noise=between)


def _maker(declared: Mapping[str, Any]) -> Callable[..., Iterator[Estimate]]:
    options = {key: value for key, value in declared.items() if key not in (*_ABOUT, "second")}
    name = options.pop("function", None)
    return partial(FUNCTIONS[name], **options) if name else Rows(**options)


def class_means(
    table: Table, column: str, cell: str, subtract: str = "", top: float = 1.0
) -> Iterator[Estimate]:
    """Mean over classes of a column of Figure 3's points (minus another one), called `cell`.

    `top`: of the classes, only this share, those with the largest mean IoU: {count} in `cell`.
    """

    def values(points: pd.DataFrame) -> pd.Series:
        chosen = points.sort_values("iou", ascending=False, kind="stable")
        chosen = chosen[chosen["iou"].notna()].head(round(top * len(points)))
        return chosen[column] - chosen[subtract] if subtract else chosen[column]

    points = table.rows(["iou", column, *([subtract] if subtract else []), "seeds"])
    found, seeds = values(points), int(points["seeds"].max()) if len(points) else 0
    mean = mean_over_classes(cell.format(count=len(found)), found, seeds)
    yield with_noise(mean, table, lambda rows: float(values(points_of(table, rows)).mean()))


def named_classes(table: Table, classes: Sequence[str]) -> Iterator[Estimate]:
    """The gain of single classes, without interval: they have none over images."""
    for name in classes:
        rows = table.rows([DIFFERENCE], category=name)  # the data may lack the class
        stated = paper.figure3("opmask", "AP", name) - paper.figure3("maskrcnn", "AP", name)
        yield Estimate(name, rows[DIFFERENCE].mean(), paper=stated)


def slopes(table: Table, model: str, factor: float, **rows: Any) -> Iterator[Estimate]:
    """The slope of one of Figure 3's regressions, whose points give its noise."""
    points = table.tables.table("figures/figure3.csv") if table.tables else table

    def slope(per_class: pd.DataFrame) -> float:
        known = points_of(points, per_class).dropna(subset=["iou", model])
        return (
            factor * stats.linregress(known["iou"], known[model]).slope if len(known) > 3 else NAN
        )

    for cell in Rows(factor=factor, **rows)(table, model=model):
        yield with_noise(cell, points, slope)


def log_slope(table: Table, factor: float, cell: str) -> Iterator[Estimate]:
    """The slope of log(novel AP / supervised AP) of the baseline: of the share that a class keeps.

    Of the classes where both are above 0.
    """
    points = table.rows(["iou", BASELINE, f"{BASELINE}_supervised"])
    points = points[(points[[BASELINE, f"{BASELINE}_supervised"]] > 0).all(axis="columns")].dropna()
    if len(points) < 4:
        yield Estimate(cell)
        return
    kept = np.log(points[BASELINE] / points[f"{BASELINE}_supervised"])
    fit = stats.linregress(points["iou"], kept)
    half = float(stats.t.isf(ALPHA / 2, len(points) - 2)) * fit.stderr
    yield Estimate(cell, fit.slope, fit.slope - half, fit.slope + half, over=CLASSES).scaled(factor)


def box_against_mask_by_run(table: Table) -> Iterator[Estimate]:
    """Correlation of box AP (all classes) and mask AP (novel) over the runs of Table 3."""
    keys = ["backbone", "schedule"]
    for supervised, direction in DIRECTIONS.items():
        where = {"supervised": supervised, "minus": ""}
        box = table.rows(["ours"], keys, task="bbox", classes="all", **where)
        mask = table.rows(["ours"], keys, task="segm", classes="novel", **where)
        pairs = box.merge(mask, on=keys, suffixes=("_box", "_mask"))
        published = paper.load("table3").query("supervised == @supervised")
        stated = float(published["AP_box"].corr(published["AP"]))
        name = f"{direction}, over schedules and backbones"
        yield correlation(name, pairs["ours_box"], pairs["ours_mask"], RUNS, paper=stated)


def box_against_mask_by_class(table: Table) -> Iterator[Estimate]:
    """Correlation of box and mask AP over the novel classes of OPMask with R-50."""
    where = {"method": "opmask", "backbone": "R50", "supervision": "novel"}
    for supervised, direction in DIRECTIONS.items():
        where |= {"supervised": supervised, "schedule": table.schedule}
        rows = table.rows(["AP"], ["category", "task", "seed"], **where)
        name, seeds = f"{direction}, R50, over novel classes", rows["seed"].nunique()
        both = _box_and_mask(rows)
        cell = correlation(name, both["bbox"], both["segm"], CLASSES, seeds=seeds)
        yield with_noise(cell, table, partial(_r_of_training, where=dict(where)))


def _box_and_mask(rows: pd.DataFrame) -> pd.DataFrame:
    by = rows.groupby(["category", "task"])["AP"].mean().unstack()
    return by.reindex(columns=["bbox", "segm"])


def _r_of_training(rows: pd.DataFrame, where: Mapping[str, str]) -> float:
    both = _box_and_mask(rows[(rows[list(where)] == pd.Series(where)).all(axis="columns")])
    return float(both["bbox"].corr(both["segm"]))


def masks_that_fail(table: Table, cell: str) -> Iterator[Estimate]:
    """Half of the boxes' AP50 minus AP50 of the plain class activation maps as their masks.

    Above 0, more than half of what the boxes score is lost because masks overlap by less than 0.5.
    Mean over the runs of Table 2 without the prior, with Student's interval over them.
    """
    where = {"minus_method": "", "classes": "all", "metric": "AP50"}
    maps = table.rows(["ours"], ["method", "supervised"], **where)
    maps = maps[maps["method"] != "opmask"]
    per_class = table.tables.table("tables/per_class.csv") if table.tables else table
    run, where = ["method", "supervised"], {"backbone": "R50", "task": "bbox"}
    boxes = per_class.rows(["AP50"], run, schedule=table.schedule, **where)
    both = maps.merge(boxes.groupby(run)["AP50"].mean().rename("box").reset_index(), on=run)
    found = mean_over_classes(cell, both["box"] / 2 - both["ours"])
    yield replace(found, over=RUNS)


def more_weights(table: Table, methods: Sequence[str], than: str) -> Iterator[Estimate]:
    """How many millions of weights other systems, retrained here, have more than method `than`."""
    for method in methods:
        rows = table.with_rows(method=method).rows(["parameters"], ["method"])
        weights = rows.groupby("method")["parameters"].max().reindex([method, than])
        yield exact(f"{MODELS[method]} − {MODELS[than]}", weights[method] - weights[than])


def quoted_gap(
    _: Table,
    a: tuple[str, str],
    others: Sequence[tuple[str, str]],
    metrics: Sequence[str] = ("AP",),
    stated: Sequence[float] = (),
) -> Iterator[Estimate]:
    """Table 1 of the paper: row a (backbone, method) minus each other row, in both directions.

    `stated`: the differences that a sentence gives, by row, direction and metric in turn.
    """
    table = paper.load("table1").set_index(["backbone", "method", "supervised"]).sort_index()
    numbers = iter(stated)
    for other, (supervised, direction), metric in product(others, DIRECTIONS.items(), metrics):
        gap = table.loc[(*a, supervised), metric] - table.loc[(*other, supervised), metric]
        name = f"{a[1]} {a[0]} − {other[1]} {other[0]}, {direction}, {metric}"
        yield exact(name, gap, next(numbers, NAN))


def overlap_ranks(_: Table) -> Iterator[Estimate]:
    """Rank of person and cat by mean IoU among COCO's classes, under every reading of the mean."""
    for row in coco_overlap().itertuples():
        yield exact(f"{row.category}, read as {row.reading}", row.rank)


def facts(_: Table, numbers: Mapping[str, float]) -> Iterator[Estimate]:
    """Numbers of the method's own definition, by name."""
    yield from (exact(name, value) for name, value in numbers.items())


def exact(name: str, value: float, stated: float = NAN) -> Estimate:
    """A number without uncertainty, beside the paper's."""
    value = round(float(value), 4)
    return Estimate(name, value, value, value, paper=stated, over=NOTHING)


def coco_overlap() -> pd.DataFrame:
    """The package's `coco_overlap.csv`."""
    with files(__package__).joinpath("coco_overlap.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


FUNCTIONS: dict[str, Callable[..., Iterator[Estimate]]] = {
    one.__name__: one
    for one in (class_means, named_classes, slopes, log_slope, box_against_mask_by_run,
                box_against_mask_by_class, masks_that_fail, more_weights, quoted_gap,
                overlap_ranks, facts)
}  # fmt: skip
