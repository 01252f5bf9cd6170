"""How far Figure 3's regressions carry: single classes, and other readings of "mean IoU".

Tables for the page of `regression_page`, and the paper's own numbers beside them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study import format as markdown
from study import paper
from study.analysis.class_points import MODELS, RELATIVE_FLOOR, largest_relative
from study.analysis.overlap import READINGS
from study.labels import BASELINE, DIFFERENCE, METHODS, OURS


def influence(by: pd.DataFrame) -> str:
    """Table of influence. `by`: `regression.regress` by model and quantity."""
    rows = []
    for model, label in {**METHODS, DIFFERENCE: "OPMask − Mask R-CNN"}.items():
        without, cook, dfbetas = (
            by.loc[model, quantity] for quantity in ("p_without_one", "cooks_distance", "dfbetas")
        )
        reach = " to ".join(p_cell(without[end]) for end in ("low", "high"))
        rows.append(
            {
                "Model": label,
                "p": p_cell(without["value"]),
                "p without any one class": reach,
                "Largest change": without["category"] or markdown.MISSING,
                "Largest Cook's distance": _named(cook),
                "Largest dfbetas of the slope": _named(dfbetas),
            }
        )
    return markdown.table(pd.DataFrame(rows))


def improvements(points: pd.DataFrame) -> str:
    """Table of the classes of largest relative improvement, and of those the paper names."""
    best = largest_relative(points)
    named = points[points["category"].isin(_published_classes())]
    shown = pd.concat([best, named.drop(best.index, errors="ignore")])
    ranks = points["iou"].rank(ascending=False)
    rows = [
        {
            "Class": row["category"],
            "Rank in IoU": f"{ranks[index]:.0f}" if ranks[index] > 0 else markdown.MISSING,
            "Mask R-CNN": markdown.number(row[BASELINE]),
            "OPMask": markdown.number(row[OURS]),
            "Relative": _relative(row["relative"]),
            "Paper": _published_change(row["category"]),
        }
        for index, row in shown.iterrows()
    ]
    if not rows:
        return "No class was run, or none improved."
    return (
        f"Relative to Mask R-CNN's AP, or to {RELATIVE_FLOOR:.0f} AP where it is less; person and "
        "cat are the paper's examples of classes with much overlap.\n\n"
        f"{markdown.table(pd.DataFrame(rows))}"
    )


def other_readings(readings: pd.DataFrame, overlap: pd.DataFrame) -> str:
    """Table of `regression.regress_readings`, with where the paper's examples rank in overlap."""
    by = readings.set_index(["reading", "model", "quantity"]).sort_index()
    ranks = overlap.set_index("category")[list(READINGS)].rank(ascending=False)
    rows = []
    for reading in READINGS:
        row = {"Reading": f"`{reading}`"}
        for model in MODELS:
            row[f"{METHODS[model]}: r"] = markdown.signed(by.loc[(reading, model, "r"), "value"], 2)
            row[f"{METHODS[model]}: p"] = p_cell(by.loc[(reading, model, "slope"), "p"])
        row["p of the difference"] = p_cell(by.loc[(reading, DIFFERENCE, "slope"), "p"])
        for name in _published_classes():
            known = name in ranks.index and not np.isnan(ranks.loc[name, reading])
            row[f"Rank of {name}"] = f"{ranks.loc[name, reading]:.0f}" if known else "–"
        rows.append(row)
    meanings = "\n".join(f"- `{name}`: mean over {what}" for name, what in READINGS.items())
    return (
        "The paper does not say over which pairs of boxes its mean goes. Ranks: 1 is the class "
        f"with the largest mean IoU.\n\n{markdown.table(pd.DataFrame(rows))}\n\n{meanings}"
    )


def _published_classes() -> Sequence[str]:
    return list(paper.load("figure3")["category"].dropna().unique())


def _published_change(category: str) -> str:
    if category not in _published_classes():
        return markdown.MISSING
    return " → ".join(f"{paper.figure3(model, 'AP', category):.2f}" for model in MODELS)


def _relative(value: float) -> str:
    return markdown.MISSING if np.isnan(value) else f"{markdown.signed(100 * value, 0)} %"


def _named(row: pd.Series) -> str:
    if np.isnan(row["value"]):
        return markdown.MISSING
    # without this class nothing is left to measure by
    value = "∞" if np.isinf(row["value"]) else markdown.number(row["value"], 2)
    return f"{value} ({row['category']})"


def p_text(p: float) -> str:
    """`= .003`, or `< .001`."""
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")


def p_cell(p: float) -> str:
    """`.003`, `< .001`, or a dash for NaN."""
    return markdown.MISSING if np.isnan(p) else p_text(p).removeprefix("= ")
