"""What the claims of sections 1 to 4.4 are tested on; one function a kind of evidence."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from study import paper
from study.analysis.estimate import CLASSES, MIN_SEEDS, Estimate, mean_over_classes, minus, number
from study.claims.sources import IMAGES, JOINED, Table, evidence, numeric
from study.labels import BACKBONES, DIFFERENCE, DIRECTIONS, METHODS, MODELS, WITH_MASKS

# In words: methods and the columns of Figure 3's points; measures and groups of RoIs.
_NAMES = MODELS | {
    "maskrcnn_supervised": "Mask R-CNN on supervised classes",
    "opmask_supervised": "OPMask on supervised classes",
    "maskrcnn_novelty": "Mask R-CNN, novel − supervised",
    "opmask_novelty": "OPMask, novel − supervised",
    DIFFERENCE: "OPMask − Mask R-CNN",
}
_ROI_NAMES = {"mask_iou": "mask IoU", "difference": "ambiguous − clean"}
_SETS = ("all", "voc", "nonvoc")  # of classes, Table 2
SLOPE_STEP = 0.1  # slopes are told in AP per this much IoU


@evidence("tables/contrasts.csv")
def contrasts(table: Table, *names: str) -> Iterator[Estimate]:
    """Rows of the contrasts table, by name."""
    for name in names:
        row = table.row(["a", "b"], name=name)
        label = name if row is None else f"{row['a']} − {row['b']}"
        yield table.cell(label, "difference", name=name)


@evidence("tables/table1.csv")
def table1(table: Table, *metrics: str) -> Iterator[Estimate]:
    """OPMask minus its baseline, both backbones and directions, novel classes, by metric.

    A metric that the data have no objects for (no large ones, say) makes no cell.
    """
    for backbone, supervised, metric in product(BACKBONES, DIRECTIONS, metrics):
        key = {"backbone": backbone, "supervised": supervised, "metric": metric}
        key |= {"classes": "novel", "task": "segm"}
        name = f"{backbone}, {DIRECTIONS[supervised]}, {metric}"
        ours = table.cell(name, "ours", method=METHODS["opmask"], **key)
        if ours.ran or not ours.seeds:
            yield table.cell(name, "ours", method=DIFFERENCE, **key)


@evidence("tables/table2.csv")
def table2(table: Table, *pairs: tuple[str, str]) -> Iterator[Estimate]:
    """AP of class activation maps as masks, method a minus method b, all train and test sets."""
    for (a, b), supervised, classes in product(pairs, _SETS, _SETS):
        name = f"{_NAMES[a]} − {_NAMES[b]}, trained on {supervised}, tested on {classes}"
        key = {"supervised": supervised, "classes": classes, "metric": "AP"}
        yield table.cell(name, "ours", method=a, minus_method=b, **key)


@evidence("figures/figure6.csv")
def figure6(table: Table) -> Iterator[Estimate]:
    """OPMask minus baseline at every number of supervised classes, as the paper measures it."""
    for supervised, count in WITH_MASKS.items():
        name = f"{count} supervised classes"
        key = {"supervised": supervised, "measure": "paper", "method": DIFFERENCE}
        yield table.cell(name, "ap", **key)


@evidence("figures/figure6.csv", f"{IMAGES}, {JOINED}")
def figure6_stability(table: Table) -> Iterator[Estimate]:
    """How much more of its AP on all 80 classes OPMask keeps than the baseline with fewer masks."""
    key = {"measure": "all", "method": DIFFERENCE}
    *gains, full = (table.cell(str(n), "ap", supervised=s, **key) for s, n in WITH_MASKS.items())
    for gain in gains:
        name = f"gain with {gain.name} supervised classes minus gain with {full.name}"
        yield minus(name, gain, full)


@evidence("tables/ambiguity.csv", unit="percentage points")
def ambiguity(
    table: Table, measures: Sequence[str], groups: Sequence[str], classes: str = "novel"
) -> Iterator[Estimate]:
    """OPMask minus baseline on the instances that both found, by how ambiguous their RoI is.

    `measures` of `study.analysis.ambiguity.MEASURES`; `groups`: ambiguous | clean | difference.
    """
    for backbone, supervised, measure, group in product(BACKBONES, DIRECTIONS, measures, groups):
        key = {"backbone": backbone, "supervised": supervised, "measure": measure, "group": group}
        words = [_ROI_NAMES.get(word, word) for word in (measure, group)]
        name = ", ".join([backbone, DIRECTIONS[supervised], *words])
        yield table.cell(name, "gain", contrast="opmask-maskrcnn", classes=classes, **key)


@evidence(
    "tables/regression.csv", "ordinary least squares over classes", f"AP per {SLOPE_STEP} IoU"
)
def regression(table: Table, model: str) -> Iterator[Estimate]:
    """The slope of one of Figure 3's regressions, in AP per SLOPE_STEP of IoU."""
    stated = paper.figure3(model, "p")
    name = f"{_NAMES[model]}: slope"
    name += "" if math.isnan(stated) else f" (p = {stated:.3f} in the paper)"
    cell = table.cell(name, "value", model=model, quantity="slope").scaled(SLOPE_STEP)
    yield replace(cell, over=CLASSES)


@evidence("figures/figure3.csv", "mean over classes, Student's interval")
def class_means(
    table: Table, column: str, subtract: str = "", top: float = 1.0
) -> Iterator[Estimate]:
    """Mean over classes of a column of Figure 3's points (minus another one).

    `top`: of the classes, only this share, those with the largest mean IoU.
    """
    needed = ["iou", column, *([subtract] if subtract else [])]
    points = table.rows([*needed, "seeds"])
    points = points.assign(**{c: numeric(points[c]) for c in needed})
    chosen = points.sort_values("iou", ascending=False, kind="stable")
    chosen = chosen[chosen["iou"].notna()].head(round(top * len(points)))
    values = chosen[column] - chosen[subtract] if subtract else chosen[column]
    seeds = int(numeric(chosen["seeds"]).max()) if len(chosen) else 0
    label = _NAMES[column] + (f", minus {_NAMES[subtract]}" if subtract else "")
    label += f", the {len(chosen)} classes of largest mean IoU" if top < 1 else ""
    yield mean_over_classes(label, values, seeds)


@evidence("figures/figure3.csv", f"Student's interval over seeds, from {MIN_SEEDS} on")
def named_classes(table: Table, *names: str) -> Iterator[Estimate]:
    """The gain of single classes, whose only interval is the one over seeds."""
    for name in names:
        rows = table.rows([DIFFERENCE, "maskrcnn_sd", "opmask_sd"], category=name)
        # the data may lack the class
        cell = Estimate.of(rows.iloc[0], DIFFERENCE, name) if len(rows) else Estimate(name)
        if cell.ran and cell.seeds > 1:
            # taken for independent: the classes' file does not pair the seeds
            sds = (number(rows.iloc[0][column]) for column in ("maskrcnn_sd", "opmask_sd"))
            cell = replace(cell, sd=math.hypot(*sds))
        stated = paper.figure3("opmask", "AP", name) - paper.figure3("maskrcnn", "AP", name)
        yield replace(cell, paper=stated)
