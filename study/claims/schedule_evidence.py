"""What the claims of section 4.5 are tested on: Table 3, the schedule search, box AP."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from study import paper
from study.claims.rules import Cell
from study.claims.sources import (
    CLASSES,
    IMAGES,
    JOINED,
    Evidence,
    Tables,
    correlation,
    minus,
    numeric,
    one,
)
from study.labels import BACKBONES, DIRECTIONS

_HELD_OUT = "paired bootstrap over held-out images"
_CHOICES = {"paper": "130k", "compromise": "the best compromise"}  # of `search.CHOICES`


def _gap(tables: Tables, other: str, task: str, backbone: str, supervised: str) -> Cell:
    """130k minus another schedule: mask AP of novel classes (segm), box AP of all (bbox)."""
    classes = "novel" if task == "segm" else "all"
    key = {"minus": other, "task": task, "classes": classes, "backbone": backbone}
    rows = tables.rows("tables/table3", ["ours"], schedule="130k", supervised=supervised, **key)
    name = f"{backbone}, {DIRECTIONS[supervised]}, 130k − {other}"
    return one(name, rows, "ours")


def table3(
    other: str,
    task: str,
    supervised: Sequence[str] = tuple(DIRECTIONS),
    backbones: Sequence[str] = tuple(BACKBONES),
) -> Evidence:
    """130k minus another schedule: mask AP of novel classes (segm), box AP of all (bbox)."""

    def cells(tables: Tables) -> list[Cell]:
        pairs = product(backbones, supervised)
        return [_gap(tables, other, task, *pair) for pair in pairs]

    return Evidence("tables/table3.csv", IMAGES, "AP", cells)


def box_best_at_3x() -> Evidence:
    """Box AP of 3x minus every other schedule: minus 130k in the table, minus 1x by difference."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for backbone, supervised in product(BACKBONES, DIRECTIONS):
            long = _gap(tables, "3x", "bbox", backbone, supervised)
            place = f"{backbone}, {DIRECTIONS[supervised]}"
            turned = replace(long, value=-long.value, low=-long.high, high=-long.low)
            found.append(replace(turned, name=f"{place}, 3x − 130k", paper=-long.paper))
            if backbone == "R50":  # the paper has no 1x with R-101
                short = _gap(tables, "1x", "bbox", backbone, supervised)
                found.append(minus(f"{place}, 3x − 1x", short, long))
        return found

    test = f"{IMAGES}; in 3x − 1x {JOINED}"
    return Evidence("tables/table3.csv", test, "AP", cells)


def schedule_by_direction() -> Evidence:
    """(130k − 3x) in mask AP, voc → non-voc minus non-voc → voc."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for backbone in BACKBONES:
            few, many = (_gap(tables, "3x", "segm", backbone, s) for s in ("voc", "nonvoc"))
            found.append(minus(f"{backbone}, voc → non-voc minus non-voc → voc", few, many))
        return found

    test = f"{IMAGES}, {JOINED}"
    return Evidence("tables/table3.csv", test, "AP", cells)


def box_against_mask_by_run() -> Evidence:
    """Correlation of box AP (all classes) and mask AP (novel) over the runs of Table 3."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        columns = ["backbone", "schedule", "task", "classes", "ours"]
        for supervised in DIRECTIONS:
            rows = tables.rows("tables/table3", columns, supervised=supervised, minus="")
            rows = rows.assign(ours=numeric(rows["ours"]))
            box = rows[(rows["task"] == "bbox") & (rows["classes"] == "all")]
            mask = rows[(rows["task"] == "segm") & (rows["classes"] == "novel")]
            pairs = box.merge(mask, on=["backbone", "schedule"], suffixes=("_box", "_mask"))
            published = paper.load("table3").query("supervised == @supervised")
            stated = float(published["AP_box"].corr(published["AP"]))
            name = f"{DIRECTIONS[supervised]}, over schedules and backbones"
            aps = pairs["ours_box"], pairs["ours_mask"]
            found.append(correlation(name, *aps, "runs", paper=stated))
        return found

    return Evidence("tables/table3.csv", "Pearson's r over runs, Fisher's interval", "r", cells)


def box_against_mask_by_class() -> Evidence:
    """Correlation of box and mask AP over the novel classes of OPMask with R-50."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for supervised in DIRECTIONS:
            key = {"method": "opmask", "backbone": "R50", "supervised": supervised}
            key |= {"schedule": tables.schedule, "supervision": "novel"}
            rows = tables.rows("tables/per_class", ["category", "task", "AP", "seed"], **key)
            rows = rows.assign(AP=numeric(rows["AP"]))
            by = rows.groupby(["category", "task"])["AP"].mean().unstack()
            by = by.reindex(columns=["bbox", "segm"])
            name = f"{DIRECTIONS[supervised]}, R50, over novel classes"
            seeds = rows["seed"].nunique()
            found.append(correlation(name, by["bbox"], by["segm"], CLASSES, seeds=seeds))
        return found

    test = "Pearson's r over classes, Fisher's interval"
    return Evidence("tables/per_class.csv", test, "r", cells)


def overfitting() -> Evidence:
    """What novel mask AP loses from 130k to the end of the search, on held-out images, and how
    much more than that of the supervised classes."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for supervised in DIRECTIONS:
            novel, others = (_drop(tables, supervised, "paper", c) for c in ("novel", "supervised"))
            found.append(replace(novel, name=f"{novel.name}, novel classes"))
            found.append(minus(f"{novel.name}, novel minus supervised", novel, others))
        return found

    test = f"{_HELD_OUT}; in differences {JOINED}"
    return Evidence("tables/schedule_search.csv", test, "AP", cells)


def _drop(tables: Tables, supervised: str, choice: str, classes: str) -> Cell:
    key = {"supervised": supervised, "choice": choice, "classes": classes}
    key |= {"method": "opmask", "backbone": "R50"}
    rows = tables.rows("tables/schedule_search", ["iteration"], **key)
    name = f"{DIRECTIONS[supervised]}, AP at {_CHOICES[choice]} − AP at the end"
    return one(name, rows, "drop", over="held-out images")


def search_pick() -> Evidence:
    """Novel AP of the best compromise of the search minus that of the snapshot nearest to 130k."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for supervised in DIRECTIONS:
            best, stated = (
                _drop(tables, supervised, choice, "novel") for choice in ("compromise", "paper")
            )
            name = f"{DIRECTIONS[supervised]}, best compromise − nearest to 130k"
            cell = minus(name, best, stated)
            if cell.ran and (best.value, best.low) == (stated.value, stated.low):
                cell = replace(cell, low=0.0, high=0.0)  # one and the same snapshot
            found.append(cell)
        return found

    test = f"{_HELD_OUT}, {JOINED}"
    return Evidence("tables/schedule_search.csv", test, "AP", cells)
