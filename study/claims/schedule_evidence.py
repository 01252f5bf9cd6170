"""What the claims of section 4.5 are tested on: Table 3, the schedule search, box AP."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from study import paper
from study.analysis.estimate import CLASSES, Estimate, correlation, minus
from study.claims.sources import IMAGES, JOINED, Table, evidence, numeric
from study.labels import BACKBONES, DIRECTIONS

_HELD_OUT = "paired bootstrap over held-out images"
_CHOICES = {"paper": "130k", "compromise": "the best compromise"}  # of `search.CHOICES`


def _gap(table: Table, other: str, task: str, backbone: str, supervised: str) -> Estimate:
    """130k minus another schedule: mask AP of novel classes (segm), box AP of all (bbox)."""
    key = {"minus": other, "task": task, "classes": "novel" if task == "segm" else "all"}
    name = f"{backbone}, {DIRECTIONS[supervised]}, 130k − {other}"
    key |= {"backbone": backbone, "supervised": supervised}
    return table.cell(name, "ours", schedule="130k", **key)


@evidence("tables/table3.csv")
def table3(
    table: Table,
    other: str,
    task: str,
    supervised: Sequence[str] = tuple(DIRECTIONS),
    backbones: Sequence[str] = tuple(BACKBONES),
) -> Iterator[Estimate]:
    """130k minus another schedule: mask AP of novel classes (segm), box AP of all (bbox)."""
    for place in product(backbones, supervised):
        yield _gap(table, other, task, *place)


@evidence("tables/table3.csv", f"{IMAGES}; in 3x − 1x {JOINED}")
def box_best_at_3x(table: Table) -> Iterator[Estimate]:
    """Box AP of 3x minus every other schedule: minus 130k in the table, minus 1x by difference."""
    for backbone, supervised in product(BACKBONES, DIRECTIONS):
        place = f"{backbone}, {DIRECTIONS[supervised]}"
        long = _gap(table, "3x", "bbox", backbone, supervised)
        yield replace(-long, name=f"{place}, 3x − 130k")
        if backbone == "R50":  # the paper has no 1x with R-101
            short = _gap(table, "1x", "bbox", backbone, supervised)
            yield minus(f"{place}, 3x − 1x", short, long)


@evidence("tables/table3.csv", f"{IMAGES}, {JOINED}")
def schedule_by_direction(table: Table) -> Iterator[Estimate]:
    """(130k − 3x) in mask AP, voc → non-voc minus non-voc → voc."""
    for backbone in BACKBONES:
        few, many = (_gap(table, "3x", "segm", backbone, s) for s in ("voc", "nonvoc"))
        yield minus(f"{backbone}, voc → non-voc minus non-voc → voc", few, many)


@evidence("tables/table3.csv", "Pearson's r over runs, Fisher's interval", "r")
def box_against_mask_by_run(table: Table) -> Iterator[Estimate]:
    """Correlation of box AP (all classes) and mask AP (novel) over the runs of Table 3."""
    keys = ["backbone", "schedule"]
    for supervised, direction in DIRECTIONS.items():
        rows = table.rows([*keys, "task", "classes", "ours"], supervised=supervised, minus="")
        box = rows[(rows["task"] == "bbox") & (rows["classes"] == "all")]
        mask = rows[(rows["task"] == "segm") & (rows["classes"] == "novel")]
        pairs = box.merge(mask, on=keys, suffixes=("_box", "_mask"))
        published = paper.load("table3").query("supervised == @supervised")
        stated = float(published["AP_box"].corr(published["AP"]))
        name = f"{direction}, over schedules and backbones"
        aps = [numeric(pairs[column]) for column in ("ours_box", "ours_mask")]
        yield correlation(name, aps[0], aps[1], "runs", paper=stated)


@evidence("tables/per_class.csv", "Pearson's r over classes, Fisher's interval", "r")
def box_against_mask_by_class(table: Table) -> Iterator[Estimate]:
    """Correlation of box and mask AP over the novel classes of OPMask with R-50."""
    for supervised, direction in DIRECTIONS.items():
        key = {"method": "opmask", "backbone": "R50", "supervised": supervised}
        key |= {"schedule": table.schedule, "supervision": "novel"}
        rows = table.rows(["category", "task", "AP", "seed"], **key)
        rows = rows.assign(AP=numeric(rows["AP"]))
        by = rows.groupby(["category", "task"])["AP"].mean().unstack()
        by = by.reindex(columns=["bbox", "segm"])
        name = f"{direction}, R50, over novel classes"
        seeds = rows["seed"].nunique()
        yield correlation(name, by["bbox"], by["segm"], CLASSES, seeds=seeds)


@evidence("tables/schedule_search.csv", f"{_HELD_OUT}; in differences {JOINED}")
def overfitting(table: Table) -> Iterator[Estimate]:
    """What novel mask AP loses from 130k to the end of the search, on held-out images, and how
    much more than that of the supervised classes."""
    for supervised in DIRECTIONS:
        novel, others = (_drop(table, supervised, "paper", c) for c in ("novel", "supervised"))
        yield replace(novel, name=f"{novel.name}, novel classes")
        yield minus(f"{novel.name}, novel minus supervised", novel, others)


def _drop(table: Table, supervised: str, choice: str, classes: str) -> Estimate:
    name = f"{DIRECTIONS[supervised]}, AP at {_CHOICES[choice]} − AP at the end"
    key = {"method": "opmask", "backbone": "R50", "supervised": supervised}
    key |= {"choice": choice, "classes": classes}
    if len(table.rows(["iteration"], **key)) > 1:  # two searches; which is the paper's, who knows
        return Estimate(name)
    return replace(table.cell(name, "drop", **key), over="held-out images")


@evidence("tables/schedule_search.csv", f"{_HELD_OUT}, {JOINED}")
def search_pick(table: Table) -> Iterator[Estimate]:
    """Novel AP of the best compromise of the search minus that of the snapshot nearest to 130k."""
    for supervised in DIRECTIONS:
        best, stated = (_drop(table, supervised, c, "novel") for c in ("compromise", "paper"))
        name = f"{DIRECTIONS[supervised]}, best compromise − nearest to 130k"
        cell = minus(name, best, stated)
        if cell.ran and (best.value, best.low) == (stated.value, stated.low):
            cell = replace(cell, low=0.0, high=0.0)  # one and the same snapshot
        yield cell
