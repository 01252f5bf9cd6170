"""What is wrong or unclear in the paper: facts about its own numbers, computed from them.

None of it depends on our runs. What our runs say against the paper is in the ledger.
"""

import numpy as np
import pandas as pd

from study import format as markdown
from study import paper
from study.analysis.estimate import ALPHA
from study.analysis.regression import implied_r, williams
from study.claims.arithmetic import (
    BASELINE_CONVS,
    MASK_SIZE,
    OURS_CONVS,
    coco_overlap,
    deeper_head,
    field,
    seeing_all,
)
from study.labels import BACKBONES, DIRECTIONS
from study.spec.results import METRICS

VOC, NONVOC = 20, 60  # classes
SEED_SD = (0.10, 0.13)  # of mask AP between identical trainings: 130 public Mask R-CNN runs
ROUNDING = 0.05  # of a printed number
_Z = 1.96


def findings() -> dict[str, list[str]]:
    """Findings by heading, each a sentence or two of Markdown."""
    return {
        "Wrong, or not what the tables show": [
            *(table2_text(*row) for row in inconsistent_rows()),
            person_text(),
            shapemask_text(),
            second_step_text(),
            sacrifice_text(),
        ],
        "Not shown by the argument given": [
            p_values_text(),
            noise_text(),
            deeper_head_text(),
            receptive_field_text(),
        ],
        "Unclear": [thirteen_text(), box_classes_text(), *_UNSAID],
    }


_UNSAID = (
    "The paper does not say over which pairs of boxes the mean IoU of Figure 3 goes. We compute "
    "six readings (`tables/regression_readings.csv`).",
    "The paper does not say which backbone Figure 3 shows; we take R-50.",
    "Figure 6 has no numbers but two in the text, and the paper does not say which classes each "
    "point is tested on; we take the novel ones, as in Table 1, and all where none is novel.",
    "Table 2 does not say how a map becomes a mask (normalisation, threshold); we take the "
    "prior's normalisation and 0.5 (`cam.threshold`).",
    "Section 4.5 gives no rule for “the best compromise” of the two directions; we take the "
    "highest mean over them.",
    "Section 4.4 gives the ablation's +1.1 AP in the text alone: no row, no second direction, no "
    "second backbone.",
)


def inconsistent_rows() -> list[tuple[str, str, str, float, float]]:
    """Rows of Table 2 whose `all` is not the class-weighted mean of voc and non-voc.

    Returns (method, supervised, metric, printed, implied). Every printed number may be off by
    ROUNDING, and so may their mean: together, twice that.
    """
    found = []
    for (method, supervised), rows in paper.load("table2").groupby(
        ["method", "supervised"], sort=False
    ):
        by = rows.set_index("classes")
        for metric in ("AP", "AP50"):
            all_, voc, nonvoc = (by.loc[c, metric] for c in ("all", "voc", "nonvoc"))
            implied = (VOC * voc + NONVOC * nonvoc) / (VOC + NONVOC)
            if abs(all_ - implied) > 2 * ROUNDING + 1e-9:
                found.append((method, supervised, metric, float(all_), float(implied)))
    return found


def table2_text(method: str, supervised: str, metric: str, printed: float, implied: float) -> str:
    """A row of Table 2 that contradicts itself."""
    by = paper.load("table2").set_index(["method", "supervised", "classes"])[metric]
    voc, nonvoc = (by[method, supervised, c] for c in ("voc", "nonvoc"))
    return (
        f"Table 2, {method} trained on {supervised}: {metric} {printed} on all classes does not "
        f"follow from its other columns, ({VOC} × {voc} + {NONVOC} × {nonvoc}) / {VOC + NONVOC} = "
        f"{implied:.2f}; rounding explains {2 * ROUNDING:g} at most. No other row does this."
    )


def person_text() -> str:
    """Where person and cat rank in overlap."""
    ranks = coco_overlap().groupby("category")["rank"].agg(["min", "max"])
    person, cat = (f"{ranks.loc[c, 'min']} to {ranks.loc[c, 'max']}" for c in ("person", "cat"))
    return (
        "Section 4.2 names person and cat as “classes with high mean IoU values”. On all boxes of "
        f"train2017, by every reading of the mean that we tried, cat ranks {cat} of 80 and person "
        f"{person}: person is in the middle."
    )


def below(other: str) -> list[tuple[str, str, float]]:
    """(direction, metric, difference) where OPMask with R-101 is not above another system."""
    table = paper.load("table1").set_index(["backbone", "method", "supervised"])[METRICS]
    found = []
    for supervised, direction in DIRECTIONS.items():
        gap = table.loc["R101", "OPMask", supervised] - table.loc["R101", other, supervised]
        found += [(direction, m, round(v, 1)) for m, v in gap.items() if v < ROUNDING]
    return found


def shapemask_text() -> str:
    """“In all cases” and Table 1."""
    cells = ", ".join(
        f"{metric} {markdown.signed(value)} ({direction})"
        for direction, metric, value in below("ShapeMask")
    )
    return (
        "Section 4.3: “performs better than … ShapeMask in all cases” is true of AP, not of every "
        f"column of Table 1. With R-101, OPMask − ShapeMask: {cells}."
    )


def _gaps(other: str) -> pd.Series:
    """130k minus another schedule in novel mask AP, the paper's, by (backbone, supervised)."""
    table = paper.load("table3").set_index(["schedule", "backbone", "supervised"])["AP"]
    return (table.loc["130k"] - table.loc[other]).dropna().round(1)


def second_step_text() -> str:
    """Section 4.5's overfitting and Table 3."""
    gaps = _gaps("3x")
    rising = gaps[gaps < 0]
    cells = ", ".join(
        f"{markdown.signed(-value)} ({BACKBONES[backbone]}, {DIRECTIONS[s]})"
        for (backbone, s), value in rising.items()
    )
    return (
        "Section 4.5 says that after the second step the mask head “generalizes worse”. In "
        f"{len(rising)} of {len(gaps)} cells of Table 3 the 3x schedule, which has two steps, is "
        f"better on novel classes: {cells}. 3x also takes its first step later, at "
        "210k instead of 120k, so the table does not isolate the second one."
    )


def sacrifice_text() -> str:
    """What counts as much."""
    lost = -_gaps("3x")["R101", "nonvoc"]
    return (
        "Section 4.5: 130k is “not sacrificing much performance when more supervision is "
        f"available”. With R-101 in non-voc → voc it gives up {lost:.1f} AP to 3x (Table 3), as "
        "much as the 1.1 AP that section 4.4 counts as the gain from mask gradients."
    )


def receptive_field_text() -> str:
    """Section 3.2's seven convolutions."""
    return (
        f"Section 3.2: seven 3×3 convolutions have a receptive field of {field(OURS_CONVS)} "
        f"pixels, so that {seeing_all(OURS_CONVS, MASK_SIZE)} of the {MASK_SIZE**2} pixels of the "
        f"{MASK_SIZE}×{MASK_SIZE} map see all of it, and a corner sees "
        f"{field(OURS_CONVS) // 2 + 1}×{field(OURS_CONVS) // 2 + 1}."
    )


def needed_correlation() -> float:
    """From which correlation of the two models' APs on the paper's p-values show a difference."""
    r = [-implied_r(paper.figure3(model, "p"), VOC + NONVOC) for model in ("maskrcnn", "opmask")]
    between = np.linspace(0, 0.99, 100)
    return float(next(c for c in between if williams(*r, c, VOC + NONVOC)[1] < ALPHA))


def p_values_text() -> str:
    """p = .003 against p = .189."""
    p = [paper.figure3(model, "p") for model in ("maskrcnn", "opmask")]
    r = [markdown.number(-implied_r(value, VOC + NONVOC), 3) for value in p]
    return (
        f"Section 4.2 argues from p = {p[0]} (Mask R-CNN) and p = {p[1]} (OPMask). Over "
        f"{VOC + NONVOC} classes these mean r = {r[0]} and r = {r[1]}; that one is significant and "
        f"the other is not does not show that they differ. Williams' test does (p < {ALPHA}) only "
        "if the two models' APs correlate above about "
        f"{needed_correlation():.2f}, which the paper does not report."
    )


def noise_text() -> str:
    """Differences that identical trainings give as well."""
    low, high = (_Z * sd * np.sqrt(2) for sd in SEED_SD)
    gaps = _gaps("3x")
    small = gaps["R50", "nonvoc"]
    return (
        "Every number is of one training. Mask AP of identical Mask R-CNN trainings on COCO varies "
        f"by a standard deviation of {SEED_SD[0]:.2f} to {SEED_SD[1]:.2f}, so that two of them "
        f"differ by up to {low:.2f} to {high:.2f} in 95 % of cases. The 0.3 AP ahead of CPMask and "
        f"130k − 3x with R-50 in non-voc → voc ({markdown.signed(small)}) are of that size."
    )


def deeper_head_text() -> str:
    """What besides the prior separates OPMask from its baseline."""
    weights, macs = deeper_head()
    return (
        "Section 4.3 says “for a fair comparison” that the baseline has OPMask's box head and "
        f"batch norm, but not how deep its mask head is. Mask R-CNN's has {BASELINE_CONVS} "
        f"convolutions where OPMask has {OURS_CONVS}: {weights / 1e6:.2f} M weights and "
        f"{macs / 1e6:.0f} M multiply-adds a RoI more. If the baseline's has too, the gains of "
        "Table 1 are of both together; our control of equal depth separates them (claim "
        "`due-to-the-prior`)."
    )


def thirteen_text() -> str:
    """Which number “13.0 AP” is."""
    table = paper.load("table1").set_index(["method", "backbone", "supervised"])["AP"]
    gains = (table.loc["OPMask"] - table.loc["Our Mask R-CNN"]).round(1)
    (backbone, supervised), best = gains.idxmax(), gains.max()
    rest = ", ".join(f"{value:.1f}" for value in sorted(gains.drop((backbone, supervised))))
    return (
        f"Section 1 (the abstract has no number): “improves … by {best:.1f} AP” is the largest of "
        f"four gains, {BACKBONES[backbone]} in {DIRECTIONS[supervised]}, on novel classes only; "
        f"the others are {rest}."
    )


def box_classes_text() -> str:
    """Whose box AP Table 3 gives."""
    table = paper.load("table3").pivot(
        index=["backbone", "schedule"], columns="supervised", values="AP_box"
    )
    most = (table["voc"] - table["nonvoc"]).abs().max()
    return (
        "Table 3 does not say of which classes AP_Box is. The two directions differ by "
        f"{most:.1f} at most, as only box AP of all classes would; so we read it."
    )
