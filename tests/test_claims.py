"""The claims ledger: rules against naive ones, every verdict from hand-made tables with the
columns that the stages really write, and the arithmetic on the paper's own numbers."""

import math
import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parameters import write_params
from scipy import stats
from statsmodels.stats.multitest import multipletests

from opmask.errors import UserError
from pipeline import claims as stage
from study.analysis import overlap, rivals
from study.analysis.ambiguity_effect import effect_table
from study.analysis.class_points import class_points
from study.analysis.contrasts import contrast_table
from study.analysis.estimate import Estimate, Noise, minus
from study.analysis.held_out import read_curves
from study.analysis.regression import regress
from study.analysis.resampling import Resampler
from study.analysis.search import search_table
from study.claims.conditions import Setting
from study.claims.evidence import Evidence, evidence
from study.claims.ledger import CLAIMS, Claim, Graded, corrected, grade, ledger_table
from study.claims.rules import (
    FAILS,
    HOLDS,
    NOT_RUN,
    UNDECIDED,
    UNTESTABLE,
    VERDICTS,
    Equal,
    Side,
    Significance,
    holm,
    join,
    judge,
    needs,
    p_of,
    parse_rule,
)
from study.claims.sources import DEFINITION, KINDS, OURS, PAPERS, Rows, Table, Tables
from study.figures.figure6 import figure6_table
from study.report.views import claims
from study.spec.params import load_params
from study.spec.results import read_per_class, summarise
from study.tables.table1 import table1
from study.tables.table2 import table2
from study.tables.table2_maps import table2_maps
from study.tables.table3 import table3

COLUMNS = ["id", "section", "sentence", "reading", "kind", "source", "test", "rule", "paper",
           "cell", "value", "low", "high", "own_low", "own_high", "unit", "noise", "second",
           "beside", "seeds", "cells", "cells_run", "cells_for", "cells_against", "verdict",
           "needs", "lacks", "p", "p_holm", "verdict_corrected"]  # fmt: skip

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
DRAWS = {"resamples": 10, "seed": 0}
SECTIONS = {"Abstract", "1", "3.2", "4.2", "4.3", "4.4", "4.5"}
SECTIONS |= {"Figure 1", "Figure 4", "Table 2"}
SILENT = Noise(0.0, 4, "none at all")


@pytest.fixture(scope="module")
def empty():
    """Every table as its stage writes it when no run was made, by name."""
    none = Path("nowhere")
    per_class = read_per_class(none, [])
    resampler = Resampler(none, per_class, **DRAWS)
    boxes = pd.DataFrame({"category_id": [1, 17], "category": ["person", "cat"]})
    boxes = boxes.assign(**dict.fromkeys(overlap.READINGS, [0.1, 0.2]))
    points = class_points(per_class, boxes, "other_class")
    columns = ["backbone", "supervised", "method", "seed", "group", "AP"]
    found = ["run", "method", "backbone", "supervised", "seed", "annotation_id", "image_id"]
    found += ["supervision", "ambiguity", "ambiguous", "detection"]
    found += ["mask_iou", "coverage", "confusion", "perforation", "oracle_iou"]
    ap, instances = pd.DataFrame(columns=columns), pd.DataFrame(columns=found)
    return {
        "tables/table1": table1(summarise(per_class), {}),
        "tables/table2": table2(per_class, none, **DRAWS),
        "tables/table2_maps": table2_maps(per_class, none, [], 0.5, **DRAWS),
        "tables/table3": table3(per_class, none, **DRAWS),
        "tables/contrasts": contrast_table(resampler),
        "tables/ambiguity": effect_table(instances, ap, [1, 2], **DRAWS),
        "tables/regression": regress(points, **DRAWS),
        "tables/schedule_search": search_table(none, read_curves(none, []), {}, 1.0, **DRAWS),
        "tables/rivals": pd.DataFrame(columns=rivals.COLUMNS),
        "tables/per_class": per_class,
        "figures/figure3": points.assign(labelled=False),
        "figures/figure6": figure6_table(resampler),
    }


def write(folder, tables):
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    return Tables(folder)


VALUES = {"tables/contrasts": "difference", "tables/ambiguity": "gain", "figures/figure6": "ap",
          "tables/regression": "value", "tables/schedule_search": "drop"}  # fmt: skip


def filled(empty, value, low, high, seeds=3, sd=0.01):
    """Every row of every table with this number and interval."""
    result = {}
    for name, table in empty.items():
        table = table.copy()
        for column, number in {VALUES.get(name, "ours"): value, "low": low, "high": high,
                               "seeds": seeds, "sd": sd, "p": 0.001}.items():  # fmt: skip
            if column in table:
                table[column] = number
        result[name] = table
    return result


def verdicts(tables):
    return {one.claim.id: one.verdict for one in grade(tables)}


def cell(value, low, high, **fields):
    return Estimate("x", value, low, high, **{"noise": SILENT} | fields)


intervals = st.tuples(st.floats(-5, 5), st.floats(0.01, 5), st.floats(0.01, 5)).map(
    lambda v: cell(v[0], v[0] - v[1], v[0] + v[2])
)


def far_from_ties(cells, threshold=0.0):
    ends = [end for c in cells for end in (c.low, c.high, c.value)]
    return all(abs(end - threshold) > 1e-6 for end in ends)


@given(intervals, st.sampled_from([1, -1]), st.floats(-3, 3))
@settings(deadline=None)
def test_one_cell_is_decided_by_where_its_interval_lies(one, sign, threshold):
    if not far_from_ties([one], threshold):
        return
    above, below = one.low > threshold, one.high < threshold
    claimed, other = (above, below) if sign > 0 else (below, above)
    expected = HOLDS if claimed else FAILS if other else UNDECIDED
    assert judge([one], Side(sign, threshold)) == expected
    assert bool(needs([one], Side(sign, threshold))) == (expected == UNDECIDED)


@given(st.lists(st.floats(1e-4, 1) | st.floats(1e-4, 0.02), min_size=1, max_size=8))
@settings(deadline=None, max_examples=20)
def test_holm_against_statsmodels(p_values):
    with mock.patch("gc.collect"):  # statsmodels calls it: half a second beside torch
        expected = multipletests(p_values, method="holm")[1].tolist()
    assert holm(p_values).tolist() == pytest.approx(expected)
    found = holm([math.nan, *p_values]).tolist()  # not one of the hypotheses
    assert math.isnan(found[0]) and found[1:] == pytest.approx(expected)


@given(st.lists(intervals, min_size=1, max_size=6), st.sampled_from([1, -1]))
@settings(deadline=None)
def test_several_cells_against_a_naive_rule(cells, sign):
    if not far_from_ties(cells):
        return
    p_values = []
    for one in cells:
        half = one.value - one.low if one.value > 0 else one.high - one.value
        p_values.append(2 * stats.norm.sf(stats.norm.isf(0.025) * abs(one.value) / half))
    rejected = holm(p_values) < 0.05
    refuted = any(r and sign * c.value < 0 for r, c in zip(rejected, cells, strict=True))
    claimed = all(c.low > 0 if sign > 0 else c.high < 0 for c in cells)
    expected = FAILS if refuted else HOLDS if claimed else UNDECIDED
    assert judge(cells, Side(sign)) == expected
    mirrored = [cell(-c.value, -c.high, -c.low) for c in cells]
    assert judge(mirrored, Side(-sign)) == expected


def test_correction_for_several_cells_by_hand():
    bad = cell(-2.1, -4.1, -0.1)  # z = 1.96 · 2.1 / 2 = 2.06, p = .04
    good = cell(2.0, 1.0, 3.0)
    nothing = cell(0.1, -1.0, 1.2)
    assert judge([bad], Side()) == FAILS
    assert judge([bad, nothing], Side()) == UNDECIDED  # .04 > .05 / 2
    assert judge([bad, good], Side()) == FAILS  # the good one's p = .0001 goes first, then .04
    assert judge([good, good], Side()) == HOLDS
    assert judge([good, nothing], Side()) == UNDECIDED


def test_what_an_undecided_claim_needs():
    one = cell(2.0, -2.0, 6.0)  # half-width 4, estimate 2: (4/2)² = 4
    assert needs([one], Side()) == (
        "4.0 times the validation images and seeds to confirm it, if the estimates stay"
    )
    assert needs([one], Side(-1)).startswith("4.0 times the validation images and seeds to refute")
    # the same with the correction for two cells: z .0125 / z .025 = 2.2414 / 1.96, squared 1.308
    other = cell(-2.0, -6.0, 2.0)
    assert needs([one, other], Side()).startswith(
        "5.2 times the validation images and seeds to refute"
    )
    half = cell(2.0, -2.0, 6.0, over="classes")
    assert "4.0 times the classes and seeds" in needs([half], Side())
    assert "more than 1000 times" in needs([cell(0.0, -1.0, 1.0)], Side())
    assert "runs for 1 of 2 cells (y)" in needs([cell(2.0, 1.0, 3.0), Estimate("y")], Side())
    assert "3 seeds or more" in needs([Estimate("x", 2.0)], Side())
    assert needs([cell(2.0, 1.0, 3.0)], Side()) == "" == needs([Estimate("y")], Side())


def test_three_seeds_count_as_well():
    within = cell(2.0, 1.0, 3.0, seeds=3, sd=0.5)  # ± 4.303 · 0.5 / √3 = 1.24
    noisy = cell(2.0, 1.0, 3.0, seeds=3, sd=1.0)  # ± 2.48: includes 0
    two = cell(2.0, 1.0, 3.0, seeds=2, sd=9.0)
    assert [judge([c], Side()) for c in (within, noisy, two)] == [HOLDS, UNDECIDED, HOLDS]
    assert needs([noisy], Side()).startswith("1.5 times the seeds")  # (2.48 / 2)² = 1.54
    assert judge([Estimate("x", 2.0, seeds=3, sd=0.5)], Side()) == HOLDS  # seeds alone
    assert judge([cell(-2.0, -3.0, -1.0, seeds=3, sd=1.0)], Side()) == UNDECIDED


def test_missing_cells():
    good, bad = cell(2.0, 1.0, 3.0), cell(-2.0, -3.0, -1.0)
    assert judge([], Side()) == judge([Estimate("x")], Side()) == NOT_RUN
    assert judge([good, Estimate("y")], Side()) == UNDECIDED
    assert judge([bad, Estimate("y")], Side()) == FAILS


def test_the_papers_own_criterion():
    small, large = (Estimate("x", v, p=p, noise=SILENT) for v, p in ((-3.0, 0.003), (-1.0, 0.189)))
    claim, opposite = Significance(-1), Significance(-1, significant=False)
    assert [judge([c], claim) for c in (small, large)] == [HOLDS, FAILS]
    assert [judge([c], opposite) for c in (small, large)] == [FAILS, HOLDS]
    other = Estimate("x", 3.0, p=0.003, noise=SILENT)  # significant, on the other side
    assert [judge([other], one) for one in (claim, opposite)] == [FAILS, HOLDS]
    assert judge([Estimate("x", -3.0, noise=SILENT)], claim) == UNDECIDED
    # p from the interval: z = 1.96 · 3 / 2 = 2.94, p = .0033; over four cells .013
    cells = [cell(3.0, 1.0, 5.0)] + 3 * [cell(0.1, -1.0, 1.2)]
    assert judge(cells[:1], Significance(1, significant=False)) == FAILS
    assert judge(cells, Significance(1, significant=False)) == HOLDS


def test_another_training_may_have_crossed_the_papers_level():
    """Value −3 with p .003: z 2.968, error 1.011, the level 2.576 · 1.011 = 2.604: .396 beyond."""
    rule = Significance(-1)
    for sd, expected in ((0.14, HOLDS), (0.15, UNDECIDED)):  # t of 4 df is 2.776: .389, .416
        one = Estimate("x", -3.0, p=0.003, noise=Noise(sd, 4))
        assert judge([one], rule) == expected
        assert "more seeds" in needs([one], rule) or expected == HOLDS
    assert judge([Estimate("x", -3.0, p=0.003)], rule) == UNDECIDED


def test_noise_between_trainings_is_added():
    """Error 0.5 over images and 0.5 between trainings: √½, of 4 · (½ / ¼)² = 16 df; t = 2.12."""
    one = cell(1.6, 1.6 - 0.98, 1.6 + 0.98, noise=Noise(0.5, 4))
    half = stats.t.isf(0.025, 4 * ((0.98 / 1.959964) ** 2 + 0.25) ** 2 / 0.25**2) * math.hypot(
        0.98 / 1.959964, 0.5
    )
    assert (one.whole().low, one.whole().high) == pytest.approx((1.6 - half, 1.6 + half))
    assert judge([one], Side()) == HOLDS
    assert judge([cell(1.4, 0.42, 2.38, noise=Noise(0.5, 4))], Side()) == UNDECIDED
    two = cell(1.4, 0.42, 2.38, seeds=2, noise=Noise(0.5, 4))  # half the variance
    assert judge([two], Side()) == HOLDS
    unknown = cell(9.0, 8.0, 10.0, noise=Noise())
    assert judge([unknown], Side()) == UNDECIDED and "noise" in needs([unknown], Side())
    assert judge([cell(9.0, 8.0, 10.0, noise=Noise(), over="runs")], Side()) == HOLDS
    assert math.isnan(p_of([unknown], Side()))


def test_the_p_of_a_claim():
    good, weak, bad = cell(3.0, 1.0, 5.0), cell(1.0, -1.0, 3.0), cell(-3.0, -5.0, -1.0)
    p_good, p_weak = (2 * stats.norm.sf(1.959964 * v / 2) for v in (3, 1))
    assert p_of([good, weak], Side()) == pytest.approx(p_weak)  # the weakest
    assert p_of([bad, weak], Side()) == pytest.approx(2 * p_good)  # the strongest against, Holm
    assert math.isnan(p_of([good, Estimate("y")], Side()))


@pytest.mark.parametrize(
    ("first", "second", "joint"),
    [(HOLDS, HOLDS, HOLDS), (HOLDS, UNDECIDED, HOLDS), (UNDECIDED, HOLDS, HOLDS),
     (HOLDS, FAILS, UNDECIDED), (FAILS, UNDECIDED, FAILS), (FAILS, NOT_RUN, FAILS),
     (UNDECIDED, NOT_RUN, UNDECIDED), (NOT_RUN, NOT_RUN, NOT_RUN)],
)  # fmt: skip
def test_two_metrics_of_one_claim(first, second, joint):
    assert join(first, second) == join(second, first) == joint


def graded_of(*cells, second=(), lacks="", kind=OURS):
    made = Evidence("f.csv", "t", lambda tables: [], kind=kind)
    return Graded(Claim("a", "1", "s", "r", made), cells, second, lacks)


def test_correction_over_the_ledger():
    """p .01, .02 and .04 of three claims: .03, .04, .04 by Holm; the others have no part in it."""
    z = [float(stats.norm.isf(p / 2)) for p in (0.01, 0.02, 0.04)]
    claims_ = [graded_of(cell(v, v - 1.959964, v + 1.959964)) for v in z]
    apart = [graded_of(cell(9.0, 8.0, 10.0), lacks="frozen"), graded_of(Estimate("x")),
             graded_of(cell(9.0, 8.0, 10.0), kind=PAPERS)]  # fmt: skip
    table = corrected([*claims_, *apart])
    assert table["p_holm"][:3].tolist() == pytest.approx([0.03, 0.04, 0.04], abs=1e-6)
    assert table["p_holm"][3:].isna().all()
    assert table["verdict"].tolist() == [HOLDS] * 3 + [UNTESTABLE, NOT_RUN, HOLDS]
    more = corrected([*claims_, graded_of(cell(0.1, -1.0, 1.2))])  # .04, .06, .08
    assert more["verdict"].tolist() == [HOLDS, UNDECIDED, UNDECIDED, UNDECIDED]


def test_a_claim_decided_by_either_metric_pays_for_both():
    weak, strong = cell(0.1, -1.0, 1.2), cell(2.5, 0.54, 4.46)  # p .0124
    one = graded_of(weak, second=(strong,))
    assert one.verdict == HOLDS and one.p == pytest.approx(2 * 0.01242, rel=1e-2)
    against = graded_of(strong, second=(cell(-2.5, -4.46, -0.54),))
    assert against.verdict == UNDECIDED and against.p == 1


def test_what_a_scale_cannot_test():
    small = Setting(epochs=2.1, trained_backbone=False)
    assert "2.1 times" in small.lacks({"epochs": 12}) and not small.lacks({"own_backbones": True})
    assert "ResNet is frozen" in small.lacks({"trained_backbone": True})
    assert not Setting().lacks({"epochs": 12, "trained_backbone": True, "own_backbones": True})
    lacking = graded_of(cell(2.0, 1.0, 3.0), lacks="frozen")
    assert lacking.verdict == UNTESTABLE and graded_of(Estimate("x"), lacks="f").verdict == NOT_RUN
    manifest = {"train": {"counts": {"images": 118287}}}
    coco = Setting.of(PARAMS | {"scale": "coco"}, manifest)
    assert coco.epochs == pytest.approx(270000 * 16 / 118287)
    assert not any(coco.lacks(claim.testable) for claim in CLAIMS)
    mini = Setting.of(PARAMS | {"scale": "miniature"}, {"train": {"counts": {"images": 3000}}})
    untestable = {claim.id for claim in CLAIMS if mini.lacks(claim.testable)}
    assert {"overfitting", "second-step", "cam-no-better"} <= untestable


def test_equal_allows_for_rounding_alone():
    assert judge([cell(10.1, 10.1, 10.1, paper=10.1)], Equal()) == HOLDS
    assert judge([cell(10.15, 10.15, 10.15, paper=10.1)], Equal()) == HOLDS
    assert judge([cell(10.2, 10.2, 10.2, paper=10.1)], Equal()) == FAILS


def test_square_and_add():
    found = minus("d", cell(5.0, 2.0, 8.0, seeds=3), cell(1.0, -3.0, 5.0, seeds=1))
    assert (found.value, found.low, found.high, found.seeds) == (4.0, -1.0, 9.0, 1)  # 3, 4 → 5
    skew = minus("d", cell(5.0, 2.0, 6.0), cell(1.0, 0.0, 5.0))
    assert (skew.low, skew.high) == (4 - 5, pytest.approx(4 + math.sqrt(2)))
    assert math.isnan(minus("d", cell(5.0, 2.0, 6.0), Estimate("x")).value)


def test_square_and_add_covers_simulated_differences():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 3, 20000), rng.normal(0, 4, 20000)
    one = minus("d", *(cell(m, m - 1.96 * s, m + 1.96 * s) for m, s in ((1, 3), (0, 4))))
    low, high = np.quantile(a - b, [0.025, 0.975])
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.25)


def test_without_any_table_only_arithmetic_is_decided(tmp_path):
    graded = grade(Tables(tmp_path))
    for one in graded:
        assert (one.verdict == NOT_RUN) == (one.claim.evidence.kind == OURS), one.claim.id
    assert "not run" in claims.claims_page(graded, ledger_table(graded), "miniature")


def test_tables_of_runs_that_were_not_made(tmp_path, empty):
    tables = write(tmp_path, empty)
    found = [one for one in grade(tables) if one.claim.evidence.kind == OURS]
    assert len(found) > 30
    assert {one.verdict for one in found} == {NOT_RUN}
    # every file that a claim names is one that a stage writes, with a row for every cell
    sources = {one.claim.evidence.source.removesuffix(".csv") for one in found}
    assert sources == set(empty) - {"tables/table1"}  # of which only noise is taken


# with the spread over seeds in a column
DIRECTIONAL = {"tables/contrasts", "tables/table2", "tables/table3", "tables/ambiguity",
               "figures/figure6"}  # fmt: skip


@pytest.mark.parametrize(
    "numbers, expected",
    [((2.0, 1.0, 3.0), (HOLDS, FAILS)), ((-2.0, -3.0, -1.0), (FAILS, HOLDS)),
     ((2.0, -2.0, 6.0), (UNDECIDED, UNDECIDED)), ((math.nan,) * 3, (NOT_RUN, NOT_RUN))],
)  # fmt: skip
def test_every_verdict_of_claims_read_from_one_column(tmp_path, empty, numbers, expected):
    """Every row is there under the names that the evidence looks for, and the sign counts."""
    graded = {one.claim.id: one for one in grade(write(tmp_path, filled(empty, *numbers)))}
    joined = {"stable", "less-severe-nonvoc", "box-best-at-3x", "cam-no-better", "perforated",
              "often-below-half", "box-mask-correlation-runs", "others"}  # fmt: skip
    checked = 0
    for name, one in graded.items():
        simple = one.claim.evidence.source.removesuffix(".csv") in DIRECTIONAL
        rule = one.claim.rule
        if simple and isinstance(rule, Side) and name not in joined and abs(rule.threshold) < 1:
            assert one.verdict == expected[0 if rule.sign > 0 else 1], name
            checked += 1
            if expected[0] != NOT_RUN:
                assert all(c.ran for c in one.cells)
    assert checked >= 15


def test_claims_joined_from_two_intervals(tmp_path, empty):
    tables = filled(empty, 0.0, -0.1, 0.1)
    gains = tables["figures/figure6"]
    gains.loc[gains["supervised"] == "voc", ["ap", "low", "high"]] = [5.0, 4.0, 6.0]
    gains.loc[gains["supervised"] == "voc20", ["ap", "low", "high"]] = [4.0, 3.0, 5.0]
    gains.loc[gains["supervised"] == "nonvoc", ["ap", "low", "high"]] = [3.0, 2.0, 4.0]
    third = tables["tables/table3"]
    few = (third["supervised"] == "voc") & (third["minus"] == "3x") & (third["task"] == "segm")
    third.loc[few, ["ours", "low", "high"]] = [2.0, 1.0, 3.0]
    box = (third["task"] == "bbox") & (third["minus"] == "3x")
    third.loc[box, ["ours", "low", "high"]] = [-2.0, -3.0, -1.0]
    box = (third["task"] == "bbox") & (third["minus"] == "1x")
    third.loc[box, ["ours", "low", "high"]] = [1.0, 0.0, 2.0]
    search = tables["tables/schedule_search"]
    search.loc[search["classes"] == "novel", ["drop", "low", "high"]] = [2.0, 1.0, 3.0]
    search["iteration"] = 130
    found = {one.claim.id: one for one in grade(write(tmp_path, tables))}
    for name in ("stable", "less-severe-nonvoc", "box-best-at-3x", "overfitting", "picks-130k"):
        assert found[name].verdict == HOLDS, name
    assert found["picks-130k"].cells[0].high == 0  # one and the same snapshot
    box = {c.name: c.value for c in found["box-best-at-3x"].cells}
    assert box["R50, voc → non-voc, 3x − 1x"] == 3.0 and len(box) == 6
    assert box["R101, voc → non-voc, 3x − 130k"] == 2.0


@pytest.mark.slow
def test_another_pick_of_the_search_counts_by_how_much_it_is_better(tmp_path, empty):
    tables = filled(empty, 2.0, 1.9, 2.1)
    search = tables["tables/schedule_search"]
    best = search["choice"] == "compromise"
    search["iteration"] = np.where(best, 150, 130)
    search.loc[best, ["drop", "low", "high"]] = [2.2, 2.1, 2.3]
    assert verdicts(write(tmp_path, tables))["picks-130k"] == HOLDS  # 0.2, less than 0.5
    search.loc[best, ["drop", "low", "high"]] = [4.0, 3.9, 4.1]
    assert verdicts(write(tmp_path, tables))["picks-130k"] == FAILS


def points(count=40, shift=3.0, seeds=1):
    rng = np.random.default_rng(1)
    names = ["person", "cat", *(f"c{n}" for n in range(count - 3)), "NA"]
    frame = pd.DataFrame({"category": names, "iou": np.linspace(1, 0, count), "seeds": seeds})
    frame["difference"] = rng.normal(0, 0.5, count) + np.where(frame["iou"] > 0.75, shift, 0)
    for column, mean in {"maskrcnn_novelty": -8, "opmask_novelty": -4, "opmask_supervised": 30,
                         "maskrcnn_supervised": 31}.items():  # fmt: skip
        frame[column] = rng.normal(mean, 0.5, count)
    return frame.assign(maskrcnn=frame["maskrcnn_supervised"] - 8)


def test_means_over_classes(tmp_path):
    frame = points()
    found = {one.claim.id: one for one in grade(write(tmp_path, {"figures/figure3": frame}))}
    names = ("baseline-struggles", "generalizes", "gain-high-overlap", "supervised-reliable")
    assert {found[name].verdict for name in names} == {UNDECIDED}  # noise is not known
    verdict = {
        n: judge([replace(found[n].cells[0], noise=SILENT)], found[n].claim.rule) for n in names
    }
    assert list(verdict.values()) == [HOLDS, HOLDS, HOLDS, FAILS]
    (top,) = found["gain-high-overlap"].cells
    expected = stats.ttest_1samp(frame["difference"][:10], 0).confidence_interval()
    assert (top.low, top.high) == pytest.approx(tuple(expected))
    (gap,) = found["generalizes"].cells
    paired = stats.ttest_rel(frame["opmask_novelty"], frame["maskrcnn_novelty"])
    assert (gap.low, gap.high) == pytest.approx(tuple(paired.confidence_interval()))
    assert "10 classes of largest mean IoU" in top.name
    assert found["gain-high-overlap"].beside[0].startswith("person: +")


def trainings(seeds, rng):
    """`per_class.csv` of R-50's two methods in both directions, mask AP of eight classes at random;
    the first four are of voc."""
    rows = [
        {"method": method, "backbone": "R50", "supervised": split, "schedule": "130k", "seed": seed,
         "category_id": n, "category": f"c{n}", "task": task, "AP": rng.normal(10, 3), "AP50": 20.0,
         "supervision": "supervised" if (n < 4) == (split == "voc") else "novel"}
        for method in ("maskrcnn", "opmask") for split in ("voc", "nonvoc") for seed in seeds
        for n in range(8) for task in ("segm", "bbox")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_experiment(folder, frames):
    """An experiment beside `folder`, a report's, of its scale."""
    path = folder.parent / "experiments" / "again"
    path.mkdir(parents=True)
    for name, frame in frames.items():
        frame.to_csv(path / f"{name}.csv", index=False)
    pd.DataFrame({"scale": [folder.name]}).to_csv(path / "gains.csv", index=False)


def test_numbers_over_classes_have_the_noise_of_each_training_by_itself(tmp_path):
    rng = np.random.default_rng(5)
    frame = points(8).assign(category_id=range(8))
    again = trainings((1, 2, 3), rng)
    tables = {"figures/figure3": frame, "tables/per_class": trainings((0,), rng)}
    write_experiment(tmp_path / "scale", {"per_class": again})
    one = {o.claim.id: o for o in grade(write(tmp_path / "scale", tables))}
    masks = again[again["task"] == "segm"].set_index(
        ["method", "supervision", "seed", "category_id"]
    )
    aps = masks["AP"]  # a class is novel in one direction, supervised in the other
    novelty = aps["maskrcnn", "novel"] - aps["maskrcnn", "supervised"]
    (found,) = one["baseline-struggles"].cells
    assert found.noise.sd == pytest.approx(novelty.groupby("seed").mean().std())
    assert found.noise.df == 2 and "experiment again" in found.noise.origin
    top = (aps["opmask", "novel"] - aps["maskrcnn", "novel"]).unstack()[[0, 1]].mean(axis=1)
    (found,) = one["gain-high-overlap"].cells
    assert found.noise.sd == pytest.approx(top.std())
    (found, _) = one["box-mask-correlation-classes"].cells  # OPMask, non-voc → voc
    ours = again.query("method == 'opmask' and supervised == 'nonvoc' and supervision == 'novel'")
    by = ours.pivot_table(index=["seed", "category_id"], columns="task", values="AP")
    r = [np.corrcoef(by.loc[seed].T)[0, 1] for seed in (1, 2, 3)]
    assert found.noise.sd == pytest.approx(np.std(r, ddof=1))


def test_trainings_of_the_report_itself_come_first(tmp_path):
    rng = np.random.default_rng(6)
    frame = points(8).assign(category_id=range(8))
    write_experiment(tmp_path / "scale", {"per_class": trainings((1, 2, 3), rng)})
    tables = {"figures/figure3": frame, "tables/per_class": trainings((0, 1), rng)}
    one = {o.claim.id: o for o in grade(write(tmp_path / "scale", tables))}
    (found,) = one["baseline-struggles"].cells
    assert (found.noise.df, found.seeds) == (1, 2) and "of this report" in found.noise.origin


def test_noise_is_pooled_from_rows_of_the_same_kind(tmp_path, empty):
    """Three seeds with SDs of 1 and 2, and 5 of another kind: √((1 + 4) / 2), 4 df."""
    table = empty["tables/contrasts"].copy()
    table[["difference", "low", "high", "seeds"]] = [2.0, 1.0, 3.0, 1]
    again = table.assign(seeds=0, sd=math.nan).set_index("name")
    for name, sd in {"gain R50 voc": 1.0, "gain R50 nonvoc": 2.0, "prior voc": 5.0}.items():
        again.loc[name, ["seeds", "sd"]] = [3, sd]
    folder = tmp_path / "scale"
    write_experiment(folder, {"contrasts": again.reset_index()})
    one = {o.claim.id: o for o in grade(write(folder, {"tables/contrasts": table}))}
    for cell_ in one["all-cases"].cells:
        assert (cell_.noise.sd, cell_.noise.df) == (pytest.approx(math.sqrt(2.5)), 4)
    assert one["due-to-the-prior"].cells[0].noise.sd == 5
    # of a kind that has none: of all, where trainings that are shared count once
    (other,) = one["mask-gradients"].cells
    assert other.noise.sd == pytest.approx(math.sqrt(30 / 3)) and other.noise.df == 6
    write_experiment(tmp_path / "else" / "scale", {"contrasts": again.reset_index()})
    elsewhere = tmp_path / "else" / "other"
    (found,) = {o.claim.id: o for o in grade(write(elsewhere, {"tables/contrasts": table}))}[
        "mask-gradients"
    ].cells
    assert not found.noise.known  # the experiment is of another scale


def test_masks_are_graded_in_true_boxes_too(tmp_path, empty):
    table = filled(empty, 0.5, -1.0, 2.0)["tables/contrasts"]
    assert verdicts(write(tmp_path, {"tables/contrasts": table}))["gain-r50"] == UNDECIDED
    oracle = table.assign(task="oracle", metric="IoU", difference=6.0, low=5.0, high=7.0)
    both = write(tmp_path, {"tables/contrasts": pd.concat([table, oracle])})
    graded = {o.claim.id: o for o in grade(both)}
    one = graded["gain-r50"]
    assert one.verdict == HOLDS and len(one.cells) == len(one.second) == 2
    row = ledger_table([one]).iloc[0]
    assert row["second"].startswith(
        "mask IoU in true boxes: +6.00 points (+5.00 to +7.00), opmask-"
    )
    page = claims.claims_page(list(graded.values()), ledger_table(list(graded.values())), "s")
    assert "Mask IoU in true boxes" in page


def test_maps_that_overlap_too_little(tmp_path, empty):
    """AP50 of boxes 40, 40, 42, 42, of their maps 5, 6, 4, 7: half minus map 15, 14, 17, 14."""
    second = empty["tables/table2"].copy()
    plain = [
        ("fasterrcnn", "all"),
        ("maskrcnn", "all"),
        ("maskrcnn", "voc"),
        ("maskrcnn", "nonvoc"),
    ]
    rows = []
    for (method, split), box, of_map in zip(plain, (40, 40, 42, 42), (5, 6, 4, 7), strict=True):
        where = (second["method"] == method) & (second["supervised"] == split)
        where &= (second["minus_method"] == "") & (second["metric"] == "AP50")
        second.loc[where & (second["classes"] == "all"), "ours"] = of_map
        rows.append({"method": method, "supervised": split, "backbone": "R50", "task": "bbox",
                     "schedule": "130k", "AP50": box, "AP": 1.0, "seed": 0, "category": "c",
                     "supervision": "novel"})  # fmt: skip
    tables = {"tables/table2": second, "tables/per_class": pd.DataFrame(rows)}
    one = {o.claim.id: o for o in grade(write(tmp_path, tables))}["often-below-half"]
    expected = stats.ttest_1samp([15, 14, 17, 14], 0)
    (found,) = one.cells
    assert one.verdict == HOLDS and found.value == 15
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert one.p == pytest.approx(expected.pvalue)


def test_maps_cover_more_of_objects_in_their_true_boxes(tmp_path):
    rows = [
        {"method": "opmask", "minus_method": minus, "supervised": s, "minus_supervised": s}
        | {"classes": "all", "measure": measure, "ours": gain, "low": gain - 1, "high": gain + 1}
        | {"sd": 0.5, "seeds": 3}
        for minus in ("maskrcnn", "fasterrcnn")
        for s in ("all", "voc", "nonvoc")
        for measure, gain in (("covered", 4.0), ("iou", -9.0))
    ]
    frame = pd.DataFrame(rows)
    one = {o.claim.id: o for o in grade(write(tmp_path, {"tables/table2_maps": frame}))}
    assert [cell.value for cell in one["spatial-extent"].cells] == [4.0] * 6
    # Student's half-width over three seeds is 4.303 × 0.5 / √3 = 1.24
    assert one["spatial-extent"].verdict == HOLDS
    frame.loc[frame["measure"] == "covered", "ours"] = 1.2
    one = {o.claim.id: o for o in grade(write(tmp_path, {"tables/table2_maps": frame}))}
    assert one["spatial-extent"].verdict == UNDECIDED


def test_the_slope_on_a_log_scale(tmp_path):
    """The share that a class keeps halves from IoU 0 to 1: log ½ a unit, 0.1 of it a tenth."""
    iou = np.array([0.0, 0.5, 0.75, 1.0, 0.3])
    frame = points(5).assign(iou=iou, maskrcnn=20 * 0.5**iou, maskrcnn_supervised=20.0)
    (found,) = evidence("log_slope").cells(write(tmp_path, {"figures/figure3": frame}))
    assert found.value == pytest.approx(0.1 * math.log(0.5))


def test_slopes_are_told_per_tenth_of_iou(tmp_path, empty):
    table = empty["tables/regression"].copy()
    slope = (table["model"] == "maskrcnn") & (table["quantity"] == "slope")
    table.loc[slope, ["value", "low", "high", "p", "n"]] = [-50.0, -80.0, -20.0, 0.004, 80]
    one = {o.claim.id: o for o in grade(write(tmp_path, {"tables/regression": table}))}
    (found,) = one["p-baseline"].cells
    assert (found.value, found.low, found.p) == (-5.0, -8.0, 0.004)
    assert judge([replace(found, noise=SILENT)], one["p-baseline"].claim.rule) == HOLDS
    assert one["p-baseline"].verdict == UNDECIDED and one["p-opmask"].verdict == NOT_RUN
    assert one["p-baseline"].paper_text() == "p = .003"


def test_box_and_mask_ap(tmp_path, empty):
    third = empty["tables/table3"].copy()
    rng = np.random.default_rng(3)
    box, mask = rng.normal(40, 3, 5), rng.normal(30, 3, 5)
    ours = third.query("minus == '' and supervised == 'voc'")
    third.loc[ours.query("task == 'bbox' and classes == 'all'").index, "ours"] = box
    third.loc[ours.query("task == 'segm' and classes == 'novel'").index, "ours"] = mask
    rows = []
    for seed, name in [(s, n) for s in (0, 1) for n in range(12)]:
        for task, ap in (("bbox", 10 + name + seed), ("segm", 5 + name - seed + (name % 3))):
            rows.append({"category": f"c{name}", "task": task, "AP": ap, "AP50": ap, "seed": seed,
                         "method": "opmask", "backbone": "R50", "supervised": "voc",
                         "schedule": "130k", "supervision": "novel"})  # fmt: skip
    other = pd.DataFrame(rows).assign(schedule="3x", AP=rng.normal(20, 9, len(rows)))
    tables = {"tables/table3": third, "tables/per_class": pd.concat([pd.DataFrame(rows), other])}
    found = {o.claim.id: o.cells for o in grade(write(tmp_path, tables))}
    by_run = {c.name: c for c in found["box-mask-correlation-runs"]}
    one = by_run["voc → non-voc, over schedules and backbones"]
    expected = stats.pearsonr(box, mask)
    assert one.value == pytest.approx(expected.statistic)
    assert (one.low, one.high) == pytest.approx(tuple(expected.confidence_interval()))
    stated = [39.3, 39.8, 41.8, 41.7, 43.4], [29.0, 31.9, 31.1, 33.2, 32.7]
    assert one.paper == pytest.approx(np.corrcoef(*stated)[0, 1])
    by_class = {c.name: c for c in found["box-mask-correlation-classes"]}
    one = by_class["voc → non-voc, R50, over novel classes"]
    n = np.arange(12)
    assert one.value == pytest.approx(np.corrcoef(n, n + n % 3)[0, 1]) and one.seeds == 2
    assert not by_class["non-voc → voc, R50, over novel classes"].ran


@pytest.mark.parametrize(
    ("numbers", "unit", "name", "text"),
    [
        ((1.2, 0.4, 3.0), "AP", "AP", "+1.20 AP (+0.40 to +3.00)"),
        ((-2.0, -3.0, -1.0), "AP", "", "−2 (−3 to −1)"),
        ((45.0, 45.0, 45.0), "rank", "rank", "rank 45"),
        ((45.0, 45.0, 45.0), "rank", "", "45"),
        ((0.33, 0.33, 0.33), "weights; percent", "", "0.33"),
        ((1.5, math.nan, math.nan), "AP", "", "+1.50 (no interval)"),
    ],
)
def test_numbers_as_text(numbers, unit, name, text):
    assert claims.value_text(*numbers, unit, name) == text


def test_ranks_have_no_sign_on_any_page(tmp_path):
    graded = grade(Tables(tmp_path))
    ledger = ledger_table(graded)
    page = claims.claims_page(graded, ledger, "miniature")
    (row,) = page.split("[person-and-cat-overlap](")[1:]
    assert re.search(r"\|\s+45 \|", row.splitlines()[0])
    entry = {e.id: e for e in claims.entries(ledger)}["person-and-cat-overlap"]
    assert entry.facts["ours"].startswith("rank 45, person, read as")


ARITHMETIC = {
    "thirteen": HOLDS,
    "no-overhead": HOLDS,
    "receptive-field": HOLDS,
    "person-and-cat-overlap": FAILS,
    "r50-competitive": HOLDS,
    "cpmask": HOLDS,
}


def test_arithmetic_on_the_papers_numbers(tmp_path):
    found = {o.claim.id: o for o in grade(Tables(tmp_path)) if o.claim.evidence.kind != OURS}
    assert {name: one.verdict for name, one in found.items()} == ARITHMETIC
    assert [c.value for c in found["thirteen"].cells] == [10.1, 13.0]
    ranks = found["person-and-cat-overlap"]
    supported = {c.name: ranks.claim.rule.supports(c) for c in ranks.cells}
    assert all(good == name.startswith("cat") for name, good in supported.items())
    assert {one.claim.evidence.kind for one in found.values()} == {PAPERS, DEFINITION}


def test_costs_by_hand():
    """Section 3.1 and the authors' code: channels of the box head, RoI sizes in pixels."""
    channels, box, classes, mask, convs = (256, 512, 1024, 1024, 1024), 7, 80, 14, 7
    prior = channels[-1] * classes * box**2  # the 1×1 convolution that makes the classes' maps
    head = sum(a * b for a, b in zip(channels[:-1], channels[1:], strict=True)) * 9 * box**2
    weights, percent = evidence("prior_cost").cells(Tables(Path("nowhere")))
    assert weights.value == 0 and percent.value == pytest.approx(100 * prior / head, abs=5e-5)
    usual = channels[0] * box**2 * 1024 + 1024 * 1024  # detectron2's two layers
    (times,) = evidence("box_head_cost").cells(Tables(Path("nowhere")))
    assert times.value == pytest.approx(head / usual, abs=0.05)
    (field,) = evidence("receptive_field").cells(Tables(Path("nowhere")))
    assert field.value == 1 + 2 * convs - mask


def table_of(tmp_path, **columns):
    path = tmp_path / "some.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return Table(path, "130k")


def test_rows_as_cells(tmp_path):
    """What evidence.yaml may say of rows, each field once."""
    table = table_of(tmp_path, supervised=["voc", "voc", "nonvoc"], m=["a", "b", "a"],
                     x=[2.0, 3.0, 5.0], low=[1.0, 2.5, 4.0], high=[4.0, 3.5, 6.0],
                     n=[7, 7, 8])  # fmt: skip
    one = Rows("x", "{direction}: {m}", {"supervised": ["nonvoc", "voc"]})
    cells = list(one(table, m="a"))
    assert [c.name for c in cells] == ["non-voc → voc: a", "voc → non-voc: a"]
    assert [(c.value, c.low) for c in cells] == [(5.0, 4.0), (2.0, 1.0)]
    (turned,) = Rows("x", "{m}", {"n": "8"}, turned=True, factor=0.5, over="classes",
                     words={"m": {"a": "A"}})(table)  # fmt: skip
    assert (turned.name, turned.value, turned.low, turned.high) == ("A", -2.5, -3.0, -2.0)
    assert turned.over == "classes"
    where = {"supervised": "voc", "m": "b"}
    (less,) = Rows("x", "d", where, less={"m": "a"})(table)
    assert (less.value, less.low) == (1.0, pytest.approx(1 - math.hypot(0.5, 2)))
    (same,) = Rows("x", "d", where, less={"m": "a"}, same="n")(table)
    assert (same.value, same.low, same.high) == (1.0, 0.0, 0.0)
    (other,) = Rows("x", "d", {"supervised": "voc", "m": "a"}, less={"supervised": "nonvoc"},
                    same="n")(table)  # fmt: skip
    assert other.low < other.value == -3.0 < other.high
    with pytest.raises(UserError, match="2 rows with m 'a', not one"):
        list(Rows("x", "d", {"m": "a"})(table))
    assert [c.ran for c in Rows("x", "d", {"m": "a"}, several=True)(table)] == [False]
    with pytest.raises(UserError, match=r"some.csv: column 'backbone' is missing"):
        list(Rows("x", "{backbone}", {"n": "8"})(table))
    (absent,) = Rows("x", "{backbone}", {"n": "8"})(Table(tmp_path / "none.csv", ""))
    assert not absent.ran and absent.name == "8"


@pytest.mark.parametrize("here", [True, False])
def test_other_systems_are_compared_as_retrained_here_or_in_an_experiment(tmp_path, empty, here):
    """Three seeds, sd 0.1: all far above 0. Weights: 9.5 − 8.25 million, and 8.5 − 8.25."""
    ends = [
        (f"opmask-R50-{s}", f"{other}-R50-{s}")
        for other in ("shapeprop", "shapemask")
        for s in ("nonvoc", "voc")
    ]
    rows = pd.DataFrame([{"a": a, "b": b, "task": "segm", "metric": "AP"} for a, b in ends])
    gains = np.array([3.0, 2.0, 4.0, 5.0])
    rows = rows.assign(difference=gains, low=gains - 0.5, high=gains + 0.5, seeds=3, sd=0.1)
    costs = pd.DataFrame(
        {"method": ["opmask", "shapeprop", "shapemask"], "parameters": [8.25, 9.5, 8.5]}
    )
    own = {**empty, "tables/contrasts": pd.concat([empty["tables/contrasts"], rows])}
    tables = write(tmp_path / "s", own | {"tables/rivals": costs} if here else empty)
    if not here:
        folder = tmp_path / "experiments" / "rivals"
        found = {"gains": pd.DataFrame({"scale": ["s"]}), "contrasts": rows, "rivals": costs}
        write(folder, found)
    graded = {one.claim.id: one for one in grade(tables)}
    assert [c.value for c in graded["others"].cells] == [3.0, 2.0, 4.0, 5.0]
    assert graded["others"].verdict == graded["simpler"].verdict == HOLDS
    assert [c.value for c in graded["simpler"].cells] == [1.25, 0.25]
    assert graded["others"].beside[0].startswith("OPMask R101 − ShapeMask R101")


def test_what_is_no_evidence_is_refused():
    with pytest.raises(
        ValueError, match=r"'tabel1' is none of evidence.yaml's contrasts, retrained,"
    ):
        evidence("tabel1")


def test_every_claim_is_declared_in_full():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) >= 40
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z0-9-]+", claim.id)
        assert claim.section in SECTIONS and claim.evidence.kind in KINDS
        assert 15 < len(claim.sentence) < 220 and claim.reading.endswith((".", ")"))


def test_missing_column_names_the_file(tmp_path, empty):
    write(tmp_path, {"tables/contrasts": empty["tables/contrasts"].drop(columns="name")})
    with pytest.raises(UserError, match="contrasts.csv: column 'name' is missing"):
        grade(Tables(tmp_path))
    (tmp_path / "tables" / "contrasts.csv").write_text("")
    with pytest.raises(UserError, match="contrasts.csv: not a csv table"):
        grade(Tables(tmp_path))


@pytest.mark.parametrize(
    ("name", "column", "old", "new"),
    [
        ("tables/table2", "minus_method", "fasterrcnn", "Faster R-CNN"),
        ("tables/table3", "schedule", "130k", "130000"),
        ("tables/contrasts", "name", "gain all", "all"),
        ("tables/regression", "model", "opmask", "OPMask"),
        ("tables/ambiguity", "contrast", "opmask-maskrcnn", "opmask − maskrcnn"),
        ("tables/schedule_search", "choice", "paper", "130k"),
        ("figures/figure6", "supervised", "voc20", "voc40"),
    ],
)
def test_a_relabelled_row_is_an_error_and_never_not_run(tmp_path, empty, name, column, old, new):
    table = empty[name].copy()
    assert (table[column] == old).any()
    table[column] = table[column].replace(old, new)
    with pytest.raises(UserError, match=rf"{name}.csv: 0 rows with .*{column} '{old}'"):
        grade(write(tmp_path, {name: table}))


def test_a_row_that_is_there_twice_is_an_error(tmp_path, empty):
    table = pd.concat([empty["tables/contrasts"]] * 2)
    with pytest.raises(UserError, match="contrasts.csv: 2 rows with .*'prior nonvoc', not one"):
        grade(write(tmp_path, {"tables/contrasts": table}))


def test_a_second_search_of_a_split_leaves_open_which_is_the_papers(tmp_path, empty):
    table = filled(empty, 2.0, 1.0, 3.0)["tables/schedule_search"]
    tables = {"tables/schedule_search": pd.concat([table, table.assign(schedule="longer")])}
    assert verdicts(write(tmp_path, tables))["picks-130k"] == NOT_RUN


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("above 0", Side()),
        ("below 0.5", Side(-1, 0.5)),
        ("above -1", Side(1, -1.0)),
        ("equal", Equal()),
        ("significantly below", Significance(-1)),
        ("not significantly above", Significance(1, significant=False)),
    ],
)
def test_rules_in_words(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["over 0", "above", "never significantly above", ""])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ValueError, match="is no rule"):
        parse_rule(text)


def test_ledger_row_is_of_the_weakest_cell():
    made = Evidence("f.csv", "t", lambda tables: [])
    cells = (cell(2.0, 1.0, 3.0, seeds=2, paper=10.1), cell(1.0, 0.5, 1.5, paper=13.0))
    one = Graded(Claim("a", "1", "s", "r", made), (*cells, Estimate("none")))
    row = ledger_table([one]).iloc[0]
    assert (row["value"], row["seeds"]) == (1.0, 0)  # z: 3.9 against 3.92
    assert (row["cells"], row["cells_run"], row["cells_for"]) == (3, 2, 2)
    assert row["paper"] == "+10.1 to +13.0" and row["verdict"] == UNDECIDED


@pytest.mark.slow
def test_stage(tmp_path, monkeypatch, empty):
    tables = filled(empty, 2.0, 1.0, 3.0)
    tables["figures/figure3"] = points()
    monkeypatch.chdir(tmp_path)
    write_params(PARAMS, tmp_path)
    folder = tmp_path / "reports" / PARAMS["scale"]
    write(folder, tables)
    stage.run([])
    table = pd.read_csv(folder / "claims.csv")
    assert table.columns.tolist() == COLUMNS and table["id"].tolist() == [c.id for c in CLAIMS]
    assert set(table["verdict"]) <= set(VERDICTS)
    text = (folder / "claims.md").read_text()
    for claim in CLAIMS:
        assert f"](#{claim.id})" in text and f"\n### {claim.id}\n" in text
    head = text.splitlines()[2].partition(".**")[0]
    total = sum(int(n) for n in re.findall(r": (\d+)", head))
    assert total == sum(c.evidence.kind == OURS for c in CLAIMS)
    assert total == int(re.match(r"\*\*(\d+)", head).group(1))
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") - line.count("\\|") for line in block.splitlines()}) == 1
    assert "nan" not in text.lower().replace("nance", "") and "What we found wrong" in text
    again = text
    stage.run([])
    assert (folder / "claims.md").read_text() == again
