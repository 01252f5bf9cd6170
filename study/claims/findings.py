"""What is wrong or unclear in the paper: facts about its own numbers, computed from them.

`findings.yaml` has the sentences. None depends on our runs; what our runs say against the paper is
in the ledger.
"""

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

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
from study.format import number, signed
from study.labels import BACKBONES, BASELINE, DIRECTIONS, METHODS, OURS
from study.spec.results import METRICS

VOC, NONVOC = 20, 60  # classes
SEED_SD = (0.10, 0.13)  # of mask AP between identical trainings: 130 public Mask R-CNN runs
ROUNDING = 0.05  # of a printed number
_Z = 1.96


def findings() -> dict[str, list[str]]:
    """Findings by heading, each a sentence or two of Markdown."""
    text = files(__package__).joinpath("findings.yaml").read_text(encoding="utf-8")
    known = facts()
    return {
        heading: [sentence.format(**known) for sentence in sentences]
        for heading, sentences in yaml.safe_load(text).items()
    }


def facts() -> dict[str, Any]:
    """What the sentences are filled in with, by name."""
    ranks = coco_overlap().groupby("category")["rank"].agg(["min", "max"])
    return {
        "table2": " ".join(table2_text(*row) for row in inconsistent_rows()),
        **{name: f"{low} to {high}" for name, low, high in ranks.itertuples()},
        "below_shapemask": ", ".join(
            f"{metric} {signed(value)} ({direction})"
            for direction, metric, value in below("ShapeMask")
        ),
        **_schedule_facts(),
        **_head_facts(),
        **_p_value_facts(),
        **_gain_facts(),
    }


def inconsistent_rows() -> list[tuple[str, str, str, float, float]]:
    """Rows of Table 2 whose `all` is not the class-weighted mean of voc and non-voc.

    Returns (method, supervised, metric, printed, implied). Every printed number may be off by
    ROUNDING, and so may their mean: together, twice that.
    """
    found = []
    rows = paper.load("table2").groupby(["method", "supervised"], sort=False)
    for (method, supervised), row in rows:
        by = row.set_index("classes")
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


def below(other: str) -> list[tuple[str, str, float]]:
    """(direction, metric, difference) where OPMask with R-101 is not above another system."""
    table = paper.load("table1").set_index(["backbone", "method", "supervised"])[METRICS]
    found = []
    for supervised, direction in DIRECTIONS.items():
        gap = table.loc["R101", "OPMask", supervised] - table.loc["R101", other, supervised]
        found += [(direction, m, round(v, 1)) for m, v in gap.items() if v < ROUNDING]
    return found


def _schedule_facts() -> dict[str, Any]:
    """130k minus 3x in novel mask AP, the paper's, and where it says box AP."""
    table = paper.load("table3").set_index(["schedule", "backbone", "supervised"])
    gaps = (table["AP"].loc["130k"] - table["AP"].loc["3x"]).dropna().round(1)
    rising = gaps[gaps < 0]
    box = table["AP_box"].unstack("supervised")
    return {
        "gaps": len(gaps),
        "rising": len(rising),
        "rising_cells": ", ".join(
            f"{signed(-value)} ({BACKBONES[backbone]}, {DIRECTIONS[supervised]})"
            for (backbone, supervised), value in rising.items()
        ),
        "sacrificed": -gaps["R101", "nonvoc"],
        "small_gap": signed(gaps["R50", "nonvoc"]),
        "box_difference": (box["voc"] - box["nonvoc"]).abs().max(),
        "sd": SEED_SD,
        "noise": [_Z * sd * np.sqrt(2) for sd in SEED_SD],
    }


def _head_facts() -> dict[str, Any]:
    """Of the mask head: its depth, cost and receptive field."""
    weights, macs = deeper_head()
    return {
        "baseline_convs": BASELINE_CONVS,
        "our_convs": OURS_CONVS,
        "more_weights": weights / 1e6,
        "more_macs": macs / 1e6,
        "field": field(OURS_CONVS),
        "corner": field(OURS_CONVS) // 2 + 1,
        "side": MASK_SIZE,
        "pixels": MASK_SIZE**2,
        "seeing_all": seeing_all(OURS_CONVS, MASK_SIZE),
    }


def needed_correlation() -> float:
    """From which correlation of the two models' APs on the paper's p-values show a difference."""
    n = VOC + NONVOC
    a, b = (-implied_r(paper.figure3(model, "p"), n) for model in (BASELINE, OURS))
    return float(next(c for c in np.linspace(0, 0.99, 100) if williams(a, b, c, n)[1] < ALPHA))


def _p_value_facts() -> dict[str, Any]:
    """p = .003 against p = .189."""
    n = VOC + NONVOC
    found: dict[str, Any] = {}
    for name, model in (("baseline", BASELINE), ("opmask", OURS)):
        p = paper.figure3(model, "p")
        found |= {f"p_{name}": p, f"r_{name}": number(-implied_r(p, n), 3)}
    return found | {"classes": n, "alpha": ALPHA, "needed": needed_correlation()}


def _gain_facts() -> dict[str, Any]:
    """Which number “13.0 AP” is."""
    table = paper.load("table1").set_index(["method", "backbone", "supervised"])["AP"]
    gains: pd.Series = (table.loc[METHODS[OURS]] - table.loc[METHODS[BASELINE]]).round(1)
    backbone, supervised = gains.idxmax()
    rest = sorted(gains.drop((backbone, supervised)))
    return {
        "best_gain": gains.max(),
        "best_place": f"{BACKBONES[backbone]} in {DIRECTIONS[supervised]}",
        "other_gains": ", ".join(f"{value:.1f}" for value in rest),
    }
