"""Figure 3's regressions as a page for people: what is found, and how far it carries."""

import numpy as np
import pandas as pd

from study import format as markdown
from study import paper
from study.analysis.class_points import BACKBONE, MODELS
from study.analysis.overlap import READINGS
from study.analysis.regression import implied_r, williams
from study.labels import BACKBONES, BASELINE, DIFFERENCE, METHODS, NOT_RUN
from study.report.regression_robustness import (
    improvements,
    influence,
    other_readings,
    p_cell,
    p_text,
)

PAPER_ALPHA = 0.01  # the level the paper names
ALPHA = 0.05  # of the tests the paper does not have
STEP = 0.1  # slopes are told in AP per this much IoU
_TESTS = {  # quantities of `difference`
    "slope": "slope, paired within classes",
    "interaction_clustered": "slope, stacked points, errors clustered by class",
    "interaction": "slope, stacked points taken for independent (ignores the pairing)",
    "slope_bootstrap": "slope, classes resampled",
    "spearman": "rank correlation of the gain with IoU",
    "r_difference": "r, correlations sharing the classes (Williams)",
    "r_bootstrap": "r, classes resampled",
}


def page(
    table: pd.DataFrame,
    readings: pd.DataFrame,
    points: pd.DataFrame,
    overlap: pd.DataFrame,
    *,
    reading: str,
    scale: str,
) -> str:
    """The Markdown of `reports/<scale>/tables/regression.md`.

    Args:
        table: of `regression.regress`; readings: of `regression.regress_readings`.
        points: of `class_points.class_points`; overlap: of `overlap.class_overlap`.
        reading: the one that `table` and `points` are of.
    """
    by = table.set_index(["model", "quantity"])
    parts = [
        "# Class overlap and mask AP (Figure 3)",
        f"**{finding(table)}**",
        "![Figure 3](../figures/figure3.png)",
        _what(points, reading, scale),
        _fits(by),
        "## Do the two models differ?",
        _caution(),
        _tests(by),
        "## Is it about novel classes?",
        _control(by),
        "## Influence of single classes",
        influence(by),
        "## Largest relative improvement",
        improvements(points),
        "## Other readings of “mean IoU”",
        other_readings(readings, overlap),
    ]
    return "\n\n".join(parts) + "\n"


def finding(table: pd.DataFrame) -> str:
    """What is found, in two or three sentences, whichever way it went."""
    by = table.set_index(["model", "quantity"])
    texts = [_model_sentence(by, model) for model in MODELS]
    gap = by.loc[DIFFERENCE, "slope"]
    if np.isnan(gap["p"]):
        return " ".join([*texts, "The two models cannot be compared."])
    verb = "differ" if gap["p"] < ALPHA else "are not shown to differ"
    texts.append(
        f"The two slopes {verb}: OPMask's is {_per_step(gap)} AP per {STEP} IoU "
        f"{'above' if gap['value'] > 0 else 'below'} Mask R-CNN's (95 % interval "
        f"{_interval(gap, STEP)}, p {p_text(gap['p'])}, paired within classes)."
    )
    return " ".join(texts)


def _model_sentence(by: pd.DataFrame, model: str) -> str:
    slope, r = by.loc[model, "slope"], by.loc[model, "r"]
    if np.isnan(slope["p"]):
        why = NOT_RUN if slope["n"] == 0 else "no regression possible, nothing varies"
        return f"{METHODS[model]}: {why}."
    significant = slope["p"] < PAPER_ALPHA
    verb = "falls" if slope["value"] < 0 else "rises"
    return (
        f"{METHODS[model]}'s AP of novel classes {verb} with class overlap by {_per_step(slope)} "
        f"AP per {STEP} IoU (r {markdown.signed(r['value'], 2)}, p {p_text(slope['p'])}, "
        f"{'' if significant else 'not '}significant at {PAPER_ALPHA}; paper: "
        f"p {p_text(paper.figure3(model, 'p'))})."
    )


def _what(points: pd.DataFrame, reading: str, scale: str) -> str:
    seeds = points["seeds"].max()
    text = (
        f"Each point is a class: its mask AP from the run where it is novel (both directions "
        f"joined, {BACKBONES[BACKBONE]}, {f'mean of {seeds} seeds' if seeds > 1 else 'one seed'}) "
        f"against its mean IoU in the training set, read as `{reading}`: the mean over "
        f"{READINGS[reading]}. Each regression is ordinary least squares."
    )
    if scale != "coco":
        text += " At this scale classes overlap in other ways than in COCO: see the signs alone."
    return text


def _fits(by: pd.DataFrame) -> str:
    rows = []
    for model in MODELS:
        cells = {quantity: by.loc[model, quantity] for quantity in ("slope", "r", "spearman")}
        rows.append(
            {
                "Model": METHODS[model],
                f"Slope, AP per {STEP} IoU": markdown.signed(cells["slope"]["value"] * STEP, 2),
                "95 % interval": _interval(cells["slope"], STEP),
                "… classes resampled": _interval(by.loc[model, "slope_bootstrap"], STEP),
                "r": markdown.signed(cells["r"]["value"], 2),
                "p": p_cell(cells["slope"]["p"]),
                "Paper's p": p_cell(paper.figure3(model, "p")),
                "Spearman": markdown.signed(cells["spearman"]["value"], 2),
                "p of it": p_cell(cells["spearman"]["p"]),
                "Classes": cells["slope"]["n"] or NOT_RUN,
            }
        )
    return markdown.table(pd.DataFrame(rows))


def _caution() -> str:
    p = [paper.figure3(model, "p") for model in MODELS]
    r = [-implied_r(value, 80) for value in p]
    between = np.linspace(0, 0.99, 100)
    enough = next(c for c in between if williams(*r, c, 80)[1] < ALPHA)
    return (
        f"The paper concludes from p {p_text(p[0])} for Mask R-CNN and p {p_text(p[1])} for OPMask "
        "that OPMask's AP depends less on overlap. But that one correlation is significant and the "
        "other is not, is not itself a test: the difference between “significant” and “not "
        "significant” need not be significant (Gelman and Stern 2006). Over 80 classes its two "
        f"p-values mean r = {markdown.number(r[0], 2)} and r = {markdown.number(r[1], 2)}; these "
        f"differ at p < {ALPHA} only if the two models' APs correlate above {enough:.2f} with each "
        "other, which the paper does not report. What tests the difference:"
    )


def _tests(by: pd.DataFrame) -> str:
    rows = []
    for quantity, label in _TESTS.items():
        row = by.loc[DIFFERENCE, quantity]
        step = STEP if "slope" in label else 1
        rows.append(
            {
                "OPMask − Mask R-CNN in": label,
                "Value": markdown.signed(row["value"] * step, 2),
                "95 % interval": _interval(row, step),
                "p": p_cell(row["p"]),
            }
        )
    return markdown.table(pd.DataFrame(rows))


def _control(by: pd.DataFrame) -> str:
    labels = {"": "novel", "_supervised": "supervised", "_novelty": "novel − supervised"}
    rows = []
    for model in MODELS:
        for suffix, label in labels.items():
            slope, r = (by.loc[model + suffix, quantity] for quantity in ("slope", "r"))
            rows.append(
                {
                    "Model": METHODS[model],
                    "Classes are": label,
                    f"Slope, AP per {STEP} IoU": markdown.signed(slope["value"] * STEP, 2),
                    "95 % interval": _interval(slope, STEP),
                    "r": markdown.signed(r["value"], 2),
                    "p": p_cell(slope["p"]),
                }
            )
    return (
        "The paper takes the negative correlation as evidence that novel classes are learnt as "
        "background. Then the same classes should lose less by overlap where they have masks in "
        "training, so that the slope of novel minus supervised AP is negative. "
        f"{_control_sentence(by)}\n\n{markdown.table(pd.DataFrame(rows), left=2)}"
    )


def _control_sentence(by: pd.DataFrame) -> str:
    slope = by.loc[f"{BASELINE}_novelty", "slope"]
    if np.isnan(slope["p"]):
        return f"For Mask R-CNN: {'nothing varies' if slope['n'] else NOT_RUN}."
    if slope["value"] < 0 and slope["p"] < ALPHA:
        found = "is negative, which agrees with that explanation"
    elif slope["p"] < ALPHA:
        found = "is positive, as if all APs just shrank: no evidence for that explanation"
    else:
        found = "is not shown to differ from 0: no evidence for that explanation"
    return f"For Mask R-CNN that slope (p {p_text(slope['p'])}) {found}."


def _per_step(row: pd.Series) -> str:
    return markdown.number(abs(row["value"]) * STEP, 1)


def _interval(row: pd.Series, step: float = 1) -> str:
    if np.isnan(row["low"]):
        return markdown.MISSING
    return " to ".join(markdown.signed(row[end] * step, 2) for end in ("low", "high"))
