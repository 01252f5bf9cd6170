"""What claims are tested on: `evidence.yaml`, and the functions that make cells of other kinds."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from itertools import product, zip_longest
from typing import Any

import pandas as pd

from study import paper
from study.analysis.estimate import CLASSES, NAN, Estimate, correlation, mean_over_classes, number
from study.claims import load
from study.claims.sources import OURS, Rows, Table, Tables
from study.labels import DIFFERENCE, DIRECTIONS


@dataclass(frozen=True)
class Evidence:
    """Where the numbers are from, how their intervals came about, in which unit, and the cells."""

    source: str
    test: str
    cells: Callable[[Tables], Sequence[Estimate]]
    unit: str = "AP"
    kind: str = OURS


_ABOUT = ("source", "test", "unit", "kind")
DECLARED = load("evidence")


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

    def alternate(tables: Tables) -> list[Estimate]:
        table = tables.table(about["source"])
        turns = zip_longest(*(_maker(one)(table, **arguments) for one in parts))
        return [cell for turn in turns for cell in turn if cell is not None]

    return Evidence(cells=alternate, **about)


def _maker(declared: Mapping[str, Any]) -> Callable[..., Iterator[Estimate]]:
    options = {key: value for key, value in declared.items() if key not in _ABOUT}
    name = options.pop("function", None)
    return partial(FUNCTIONS[name], **options) if name else Rows(**options)


def class_means(
    table: Table, column: str, cell: str, subtract: str = "", top: float = 1.0
) -> Iterator[Estimate]:
    """Mean over classes of a column of Figure 3's points (minus another one), called `cell`.

    `top`: of the classes, only this share, those with the largest mean IoU: {count} in `cell`.
    """
    points = table.rows(["iou", column, *([subtract] if subtract else []), "seeds"])
    chosen = points.sort_values("iou", ascending=False, kind="stable")
    chosen = chosen[chosen["iou"].notna()].head(round(top * len(points)))
    values = chosen[column] - chosen[subtract] if subtract else chosen[column]
    seeds = int(chosen["seeds"].max()) if len(chosen) else 0
    yield mean_over_classes(cell.format(count=len(chosen)), values, seeds)


def named_classes(table: Table, classes: Sequence[str]) -> Iterator[Estimate]:
    """The gain of single classes, whose only interval is the one over seeds."""
    for name in classes:
        rows = table.rows([DIFFERENCE, "maskrcnn_sd", "opmask_sd"], category=name)
        # the data may lack the class
        cell = Estimate.of(rows.iloc[0], DIFFERENCE, name) if len(rows) else Estimate(name)
        if cell.ran and cell.seeds > 1:
            # taken for independent: the classes' file does not pair the seeds
            sds = (number(rows.iloc[0][column]) for column in ("maskrcnn_sd", "opmask_sd"))
            cell = replace(cell, sd=math.hypot(*sds))
        stated = paper.figure3("opmask", "AP", name) - paper.figure3("maskrcnn", "AP", name)
        yield replace(cell, paper=stated)


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
        yield correlation(name, pairs["ours_box"], pairs["ours_mask"], "runs", paper=stated)


def box_against_mask_by_class(table: Table) -> Iterator[Estimate]:
    """Correlation of box and mask AP over the novel classes of OPMask with R-50."""
    where = {"method": "opmask", "backbone": "R50", "supervision": "novel"}
    for supervised, direction in DIRECTIONS.items():
        where |= {"supervised": supervised, "schedule": table.schedule}
        rows = table.rows(["AP"], ["category", "task", "seed"], **where)
        by = rows.groupby(["category", "task"])["AP"].mean().unstack()
        by = by.reindex(columns=["bbox", "segm"])
        name, seeds = f"{direction}, R50, over novel classes", rows["seed"].nunique()
        yield correlation(name, by["bbox"], by["segm"], CLASSES, seeds=seeds)


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
    return Estimate(name, value, value, value, paper=stated, over="nothing")


def coco_overlap() -> pd.DataFrame:
    """The package's `coco_overlap.csv`."""
    with files(__package__).joinpath("coco_overlap.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


FUNCTIONS: dict[str, Callable[..., Iterator[Estimate]]] = {
    one.__name__: one
    for one in (class_means, named_classes, box_against_mask_by_run, box_against_mask_by_class,
                quoted_gap, overlap_ranks, facts)
}  # fmt: skip
