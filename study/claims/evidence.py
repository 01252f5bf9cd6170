"""What the claims of sections 1 to 4.4 are tested on; one function a kind of evidence.

Each returns an `Evidence`, whose `cells` reads the tables when the claim is graded.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pandas as pd

from study import paper
from study.claims.rules import MIN_SEEDS, Cell
from study.claims.sources import (
    CLASSES,
    IMAGES,
    JOINED,
    Evidence,
    Tables,
    mean_over_classes,
    minus,
    number,
    numeric,
    one,
)
from study.labels import BACKBONES, DIFFERENCE, DIRECTIONS, METHODS

# In words: methods and the columns of Figure 3's points; measures and groups of RoIs.
_NAMES = {
    "fasterrcnn": "Faster R-CNN",
    "maskrcnn": "Mask R-CNN",
    "opmask": "OPMask",
    "maskrcnn_supervised": "Mask R-CNN on supervised classes",
    "opmask_supervised": "OPMask on supervised classes",
    "maskrcnn_novelty": "Mask R-CNN, novel − supervised",
    "opmask_novelty": "OPMask, novel − supervised",
    "difference": "OPMask − Mask R-CNN",
}
_ROI_NAMES = {"mask_iou": "mask IoU", "difference": "ambiguous − clean"}
SLOPE_STEP = 0.1  # slopes are told in AP per this much IoU
SEEDS = f"Student's interval over seeds, from {MIN_SEEDS} on"


def contrasts(*names: str) -> Evidence:
    """Rows of the contrasts table, by name."""

    def cells(tables: Tables) -> list[Cell]:
        found = {name: tables.rows("tables/contrasts", ["a", "b"], name=name) for name in names}
        return [one(_pair(rows) or name, rows, "difference") for name, rows in found.items()]

    return Evidence("tables/contrasts.csv", IMAGES, "AP", cells)


def _pair(rows: pd.DataFrame) -> str:
    """The two runs of a contrast; nothing without the one row."""
    return " − ".join(rows.iloc[0][["a", "b"]]) if len(rows) == 1 else ""


def table1(metrics: Sequence[str], test: str = IMAGES) -> Evidence:
    """OPMask minus its baseline, both backbones and directions, novel classes, by metric; `test`
    says where their intervals are from.

    A metric that the data have no objects for (no large ones, say) makes no cell.
    """

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for backbone, supervised, metric in product(BACKBONES, DIRECTIONS, metrics):
            key = {"backbone": backbone, "supervised": supervised, "metric": metric}
            key |= {"classes": "novel", "task": "segm"}
            ours = tables.rows("tables/table1", ["seeds", "ours"], method=METHODS["opmask"], **key)
            rows = tables.rows("tables/table1", method=DIFFERENCE, **key)
            if not _nothing_to_measure(ours):
                name = f"{backbone}, {DIRECTIONS[supervised]}, {metric}"
                found.append(one(name, rows, "ours"))
        return found

    return Evidence("tables/table1.csv", test, "AP", cells)


def _nothing_to_measure(rows: pd.DataFrame) -> bool:
    first = rows.iloc[0] if len(rows) == 1 else None
    return first is not None and number(first["seeds"]) > 0 and math.isnan(number(first["ours"]))


def table2(*pairs: tuple[str, str]) -> Evidence:
    """AP of class activation maps as masks, method a minus method b, all train and test sets."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for a, b in pairs:
            columns = ["supervised", "minus_supervised", "classes", "ours"]
            rows = tables.rows("tables/table2", columns, method=a, minus_method=b, metric="AP")
            for supervised, classes in product(("all", "voc", "nonvoc"), repeat=2):
                mine = rows[(rows["supervised"] == supervised) & (rows["classes"] == classes)]
                pair = " − ".join(_NAMES[method] for method in (a, b))
                name = f"{pair}, trained on {supervised}, tested on {classes}"
                found.append(one(name, mine, "ours"))
        return found

    return Evidence("tables/table2.csv", IMAGES, "AP", cells)


def figure6() -> Evidence:
    """OPMask minus baseline at every number of supervised classes, as the paper measures it."""

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for supervised, count in (("voc", 20), ("voc20", 40), ("nonvoc", 60), ("all", 80)):
            key = {"supervised": supervised, "measure": "paper", "method": DIFFERENCE}
            rows = tables.rows("figures/figure6", **key)
            found.append(one(f"{count} supervised classes", rows, "ap"))
        return found

    return Evidence("figures/figure6.csv", IMAGES, "AP", cells)


def figure6_stability() -> Evidence:
    """How much more of its AP on all 80 classes OPMask keeps than the baseline with fewer masks."""

    def cells(tables: Tables) -> list[Cell]:
        key = {"measure": "all", "method": DIFFERENCE}
        gains = {
            s: one(s, tables.rows("figures/figure6", supervised=s, **key), "ap")
            for s in ("voc", "voc20", "nonvoc", "all")
        }
        counts = {"voc": 20, "voc20": 40, "nonvoc": 60}
        return [
            minus(f"gain with {n} supervised classes minus gain with 80", gains[s], gains["all"])
            for s, n in counts.items()
        ]

    test = f"{IMAGES}, {JOINED}"
    return Evidence("figures/figure6.csv", test, "AP", cells)


def ambiguity(measures: Sequence[str], groups: Sequence[str], classes: str = "novel") -> Evidence:
    """OPMask minus baseline on the instances that both found, by how ambiguous their RoI is.

    `measures` of `study.analysis.ambiguity.MEASURES`; `groups`: ambiguous | clean | difference.
    """

    def cells(tables: Tables) -> list[Cell]:
        found = []
        for values in product(BACKBONES, DIRECTIONS, measures, groups):
            names = ("backbone", "supervised", "measure", "group")
            key = dict(zip(names, values, strict=True)) | {"contrast": "opmask-maskrcnn"}
            rows = tables.rows("tables/ambiguity", classes=classes, **key)
            words = [_ROI_NAMES.get(value, value) for value in values[2:]]
            name = ", ".join([values[0], DIRECTIONS[values[1]], *words])
            found.append(one(name, rows, "gain"))
        return found

    return Evidence("tables/ambiguity.csv", IMAGES, "percentage points", cells)


def regression(model: str, quantity: str = "slope") -> Evidence:
    """A quantity of Figure 3's regressions; slopes in AP per SLOPE_STEP of IoU."""
    step = SLOPE_STEP if quantity == "slope" else 1

    def cells(tables: Tables) -> list[Cell]:
        rows = tables.rows("tables/regression", ["value"], model=model, quantity=quantity)
        published = paper.load("figure3").query("model == @model and quantity == 'p'")["value"]
        cell = one(f"{_NAMES[model]}: {quantity}", rows, "value", over=CLASSES)
        stated = f"p = {published.iloc[0]:.3f} in the paper" if len(published) else ""
        name = f"{cell.name} ({stated})" if stated else cell.name
        scaled = {k: step * getattr(cell, k) for k in ("value", "low", "high")}
        return [replace(cell, name=name, **scaled)]

    unit = f"AP per {SLOPE_STEP} IoU" if quantity == "slope" else quantity
    return Evidence("tables/regression.csv", "ordinary least squares over classes", unit, cells)


def class_means(column: str, subtract: str = "", top: float = 1.0) -> Evidence:
    """Mean over classes of a column of Figure 3's points (minus another one).

    `top`: of the classes, only this share, those with the largest mean IoU.
    """
    label = _NAMES[column] + (f", minus {_NAMES[subtract]}" if subtract else "")
    needed = ["iou", column, *([subtract] if subtract else [])]

    def cells(tables: Tables) -> list[Cell]:
        points = tables.rows("figures/figure3", [*needed, "seeds"])
        points = points.assign(**{c: numeric(points[c]) for c in needed})
        chosen = points.sort_values("iou", ascending=False, kind="stable")
        chosen = chosen[chosen["iou"].notna()].head(round(top * len(points)))
        values = chosen[column] - chosen[subtract] if subtract else chosen[column]
        seeds = int(numeric(chosen["seeds"]).max()) if len(chosen) else 0
        share = f", the {len(chosen)} classes of largest mean IoU" if top < 1 else ""
        return [mean_over_classes(f"{label}{share}", values, seeds)]

    return Evidence("figures/figure3.csv", "mean over classes, Student's interval", "AP", cells)


def named_classes(*names: str) -> Evidence:
    """The gain of single classes, whose only interval is the one over seeds."""

    def cells(tables: Tables) -> list[Cell]:
        published = paper.load("figure3").pivot(index="category", columns="model", values="value")
        found = []
        for name in names:
            columns = [DIFFERENCE, "seeds", "maskrcnn_sd", "opmask_sd"]
            rows = tables.rows("figures/figure3", columns, category=name)
            cell = one(name, rows, DIFFERENCE)
            if cell.ran and cell.seeds > 1:
                # taken for independent: the classes' file does not pair the seeds
                parts = (number(rows.iloc[0][c]) for c in ("maskrcnn_sd", "opmask_sd"))
                cell = replace(cell, sd=math.hypot(*parts))
            stated = published.loc[name, "opmask"] - published.loc[name, "maskrcnn"]
            found.append(replace(cell, paper=stated))
        return found

    return Evidence("figures/figure3.csv", SEEDS, "AP", cells)
