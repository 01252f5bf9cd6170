"""Figure 3's regressions: what is found, and how far it carries."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from study import paper
from study.analysis.class_points import BACKBONE, MODELS, RELATIVE_FLOOR, largest_relative
from study.analysis.overlap import READINGS
from study.analysis.regression import implied_r
from study.claims.findings import NEEDED_CORRELATION
from study.format import MISSING, number, p_cell, p_text, signed
from study.labels import BACKBONES, BASELINE, DIFFERENCE, METHODS, OURS
from study.report.blocks import Block, Bullets, Heading, Table
from study.report.render import lay_out, say
from study.report.words import WORDS

PAPER_ALPHA = 0.01  # the level the paper names
ALPHA = 0.05  # of the tests the paper does not have
CLASSES = 80  # of COCO, the paper's points
STEP = 0.1  # slopes are told in AP per this much IoU


def blocks(
    frame: pd.DataFrame,
    readings: pd.DataFrame,
    points: pd.DataFrame,
    overlap: pd.DataFrame,
    *,
    reading: str,
    scale: str,
) -> list[Block]:
    """The page `regression.md`.

    Args:
        frame: of `regression.regress`; readings: of `regression.regress_readings`.
        points: of `class_points.class_points`; overlap: of `overlap.class_overlap`.
        reading: the one that `frame` and `points` are of.
    """
    by = _by(frame)
    return [
        f"**{finding(frame)}**",
        "![Figure 3](../figures/figure3.png)",
        say(
            "points", points["seeds"].max(), BACKBONES[BACKBONE], reading, READINGS[reading], scale
        ),
        _fits(by),
        Heading("Do the two models differ?"),
        *_difference(by),
        Heading("Is it about novel classes?"),
        f"{WORDS['regression']['control']} "
        + say("novelty", by.loc[f"{BASELINE}_novelty", "slope"], ALPHA),
        _control(by),
        Heading("Influence of single classes"),
        _influence(by),
        Heading("Largest relative improvement"),
        *_improvements(points),
        Heading("Other readings of “mean IoU”"),
        WORDS["regression"]["readings"],
        _readings(readings, overlap),
        Bullets([f"`{name}`: mean over {what}" for name, what in READINGS.items()]),
    ]


def finding(frame: pd.DataFrame) -> str:
    """What is found, in two or three sentences, whichever way it went."""
    by = _by(frame)
    models = []
    for model in MODELS:
        slope, r, p = by.loc[model, "slope"], by.loc[model, "r"], paper.figure3(model, "p")
        models.append(say("slope", METHODS[model], slope, r, p, PAPER_ALPHA, STEP))
    return " ".join([*models, say("slopes_differ", by.loc[DIFFERENCE, "slope"], ALPHA, STEP)])


def tests(frame: pd.DataFrame) -> list[Block]:
    """The two regressions, and whether they differ."""
    return [_fits(_by(frame)), *_difference(_by(frame))]


def _fits(by: pd.DataFrame) -> Table:
    """The regression of each model."""
    lines = [_of(by, model, stated=paper.figure3(model, "p")) for model in MODELS]
    return Table(lay_out("fits", lines))


def _of(by: pd.DataFrame, model: str, **more: object) -> dict[Hashable, Any]:
    """All quantities of a model by name, each with its value, low, high, p …; and `more`."""
    return by.loc[model].to_dict("index") | {"model": model, "step": STEP} | more


def _difference(by: pd.DataFrame) -> list[Block]:
    """Why two p-values are no test of a difference, and the tests that are."""
    p = [paper.figure3(model, "p") for model in MODELS]
    why = WORDS["regression"]["difference"].format(
        p=[p_text(value) for value in p],
        r=[number(-implied_r(value, CLASSES), 2) for value in p],
        classes=CLASSES,
        alpha=ALPHA,
        enough=NEEDED_CORRELATION,
    )
    lines = [
        by.loc[DIFFERENCE, quantity].to_dict()
        | {"label": label, "step": STEP if quantity.startswith(("slope", "interaction")) else 1}
        for quantity, label in WORDS["regression"]["tests"].items()
    ]
    return [why, Table(lay_out("tests", lines))]


def _by(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index(["model", "quantity"])


def _control(by: pd.DataFrame) -> Table:
    labels = {"": "novel", "_supervised": "supervised", "_novelty": "novel − supervised"}
    lines = [
        _of(by, model + suffix, label=label) | {"model": model}
        for model in MODELS
        for suffix, label in labels.items()
    ]
    return Table(lay_out("control", lines), left=2)


def _influence(by: pd.DataFrame) -> Table:
    models = {**METHODS, DIFFERENCE: "OPMask − Mask R-CNN"}
    return Table(
        lay_out("influence", [_of(by, name, label=label) for name, label in models.items()])
    )


def _improvements(points: pd.DataFrame) -> list[Block]:
    """The classes of largest relative improvement, and those the paper names."""
    best = largest_relative(points)
    named = points[points["category"].isin(_published_classes())]
    shown = pd.concat([best, named.drop(best.index, errors="ignore")])
    if shown.empty:
        return ["No class was run, or none improved."]
    ranks = points["iou"].rank(ascending=False)
    relative = [signed(100 * value, 0) for value in shown["relative"]]
    table = {
        "Class": shown["category"],
        "Rank in IoU": [number(rank, 0) for rank in ranks[shown.index]],
        "Mask R-CNN": shown[BASELINE].map(number),
        "OPMask": shown[OURS].map(number),
        "Relative": [text if text == MISSING else f"{text} %" for text in relative],
        "Paper": shown["category"].map(_published_change),
    }
    lead = WORDS["regression"]["improvements"].format(floor=RELATIVE_FLOOR)
    return [lead, Table(pd.DataFrame(table))]


def _readings(readings: pd.DataFrame, overlap: pd.DataFrame) -> Table:
    """The regressions by every reading, with where the paper's examples rank in overlap."""
    by = readings.set_index(["reading", "model", "quantity"]).sort_index()
    ranks = overlap.set_index("category")[list(READINGS)].rank(ascending=False)
    lines = []
    for reading in READINGS:
        line = {"Reading": f"`{reading}`"}
        for model in MODELS:
            r, slope = by.loc[reading, model, "r"], by.loc[reading, model, "slope"]
            line |= {f"{METHODS[model]}: r": signed(r["value"], 2)}
            line |= {f"{METHODS[model]}: p": p_cell(slope["p"])}
        line["p of the difference"] = p_cell(by.loc[reading, DIFFERENCE, "slope"]["p"])
        places = {name: ranks[reading].get(name, np.nan) for name in _published_classes()}
        lines.append(line | {f"Rank of {name}": number(at, 0) for name, at in places.items()})
    return Table(pd.DataFrame(lines))


def _published_classes() -> list[str]:
    return list(paper.load("figure3")["category"].dropna().unique())


def _published_change(category: str) -> str:
    if category not in _published_classes():
        return MISSING
    return " → ".join(f"{paper.figure3(model, 'AP', category):.2f}" for model in MODELS)
