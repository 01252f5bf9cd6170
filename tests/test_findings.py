"""The findings' numbers, computed anew from the paper's own tables."""

from itertools import product

import numpy as np
import pytest

from study import paper
from study.analysis.regression import implied_r, williams
from study.claims import findings
from study.claims.evidence import coco_overlap
from study.format import number, signed
from study.labels import BACKBONES, DIRECTIONS, place
from study.spec.results import METRICS

VOC, NONVOC = 20, 60  # classes
ROUNDING = 0.05  # of a printed number
TEXT = " ".join(sum(findings.findings().values(), []))


def says(*facts):
    for fact in facts:
        assert fact in TEXT, fact


def published(name, *index):
    return paper.load(name).set_index(list(index)).sort_index()


def test_one_row_of_table_2_contradicts_itself():
    """`all` is the class-weighted mean; every number, and so their mean, may be off by ROUNDING."""
    table = published("table2", "method", "supervised", "classes")
    rows = table.index.droplevel("classes").unique()
    for (method, supervised), metric in product(rows, ("AP", "AP50")):
        whole, voc, nonvoc = (
            table[metric][method, supervised, c] for c in ("all", "voc", "nonvoc")
        )
        implied = (VOC * voc + NONVOC * nonvoc) / (VOC + NONVOC)
        start = f"Table 2, {method} trained on {supervised}: {metric} {whole} on all classes"
        assert (start in TEXT) == (abs(whole - implied) > 2 * ROUNDING + 1e-9)
        if start in TEXT:
            says(
                f"({VOC} × {voc} + {NONVOC} × {nonvoc}) / {VOC + NONVOC} = {implied:.2f}; rounding"
            )
    assert len(findings.about("Table 2, ")) == 1 and f"explains {2 * ROUNDING:g} at most" in TEXT


def test_ranks_of_person_and_cat():
    ranks = coco_overlap().groupby("category")["rank"].agg(["min", "max"])
    cat, person = (f"{ranks['min'][name]} to {ranks['max'][name]}" for name in ("cat", "person"))
    says(f"cat ranks {cat} of 80 and person {person}:")


def test_where_opmask_is_below_shapemask():
    table = published("table1", "backbone", "method", "supervised")[METRICS]
    gaps = table.loc["R101", "OPMask"] - table.loc["R101", "ShapeMask"]
    below = [
        f"{metric} {signed(round(gaps[metric][supervised], 1))} ({direction})"
        for supervised, direction in DIRECTIONS.items()
        for metric in METRICS
        if gaps[metric][supervised] < ROUNDING
    ]
    says(f"OPMask − ShapeMask: {', '.join(below)}.")


def test_schedules():
    table = published("table3", "schedule", "backbone", "supervised")
    gaps = (table["AP"].loc["130k"] - table["AP"].loc["3x"]).dropna().round(1)
    rising = [
        f"{signed(-gaps[at])} ({place(*at)})"
        for at in product(BACKBONES, DIRECTIONS)
        if gaps[at] < 0
    ]
    box = table["AP_box"].unstack("supervised")
    says(
        f"In {len(rising)} of {len(gaps)} cells of Table 3",
        f"better on novel classes: {', '.join(rising)}.",
        f"it gives up {-gaps['R101', 'nonvoc']:.1f} AP to 3x",
        f"R-50 in non-voc → voc ({signed(gaps['R50', 'nonvoc'])}) are of that size",
        f"differ by {(box['voc'] - box['nonvoc']).abs().max():.1f} at most",
        "deviation of 0.10 to 0.13",  # of 130 public Mask R-CNN runs
        "by up to {:.2f} to {:.2f} in 95 %".format(
            *(1.96 * np.sqrt(2) * sd for sd in (0.10, 0.13))
        ),
    )


def test_p_values():
    n = VOC + NONVOC
    p = [paper.figure3(model, "p") for model in ("maskrcnn", "opmask")]
    r = [-implied_r(one, n) for one in p]
    texts = [number(one, 3) for one in r]
    shown = [c for c in np.linspace(0, 0.99, 100) if williams(*r, c, n)[1] < 0.05]
    assert shown[0] == pytest.approx(findings.NEEDED_CORRELATION)
    says(
        f"p = {p[0]} (Mask R-CNN) and p = {p[1]} (OPMask). Over {n} classes",
        f"mean r = {texts[0]} and r = {texts[1]};",
        f"correlate above about {findings.NEEDED_CORRELATION}",
    )


def test_the_mask_heads_depth():
    more, channels, side = 7 - 4, 256, 14
    kernel = channels**2 * 9
    seen = np.eye(side, dtype=bool)
    for _ in range(7):  # one dimension: a pixel sees what its neighbours saw
        wider = np.pad(seen, ((1, 1), (0, 0)))
        seen = wider[:-2] | wider[1:-1] | wider[2:]
    weights = more * (kernel + 2 * channels) / 1e6  # with batch norm's two a channel
    says(
        f"{weights:.2f} M weights and {more * kernel * side**2 / 1e6:.0f} M multiply-adds a RoI",
        f"a receptive field of {1 + 2 * 7} pixels",
        f"{seen.all(axis=1).sum() ** 2} of the {side**2} pixels of the {side}×{side} map see all",
        f"a corner sees {seen[0].sum()}×{seen[0].sum()}",
    )


def test_which_gain_the_paper_leads_with():
    table = published("table1", "method", "backbone", "supervised")["AP"]
    gains = (table.loc["OPMask"] - table.loc["Our Mask R-CNN"]).round(1)
    backbone, supervised = gains.idxmax()
    rest = ", ".join(f"{gain:.1f}" for gain in sorted(gains)[:-1])
    says(
        f"by {gains.max():.1f} AP” is the largest of four gains, {BACKBONES[backbone]} in "
        f"{DIRECTIONS[supervised]},",
        f"the others are {rest}.",
    )
