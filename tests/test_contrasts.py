"""Contrasts against differences straight from matches, a loop, scipy and numbers by hand."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parameters import write_params
from resampled import difference, interval, weighted_ap
from scipy import stats
from test_bootstrap import simulate

from opmask.evaluation.bootstrap import class_interval, p_value, spread
from pipeline import contrasts as stage
from study import paper
from study.analysis.contrasts import CONTRASTS, Contrast, contrast_table
from study.analysis.resampling import Resampler, resample
from study.report.markdown import markdown
from study.report.views import contrasts as view
from study.spec.params import load_params
from study.spec.results import METRICS, read_per_class
from study.spec.run import Run, parse_run

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
BOOTSTRAP = {"resamples": 200, "seed": 3}
CLASSES, NOVEL = range(12), range(4, 12)


def write_run(folder, name, seed, matches, novel=NOVEL):
    """An evaluated run as the stage `evaluate` leaves it; returns it."""
    run = Run(name, *name.split("-"), "130k", seed)
    out = folder / "evaluate" / run.key
    out.mkdir(parents=True)
    matches.save(out / "matches_segm.npz")
    ap = weighted_ap(matches, np.ones((1, len(matches.image_ids))))[0]
    table = pd.DataFrame({"category_id": CLASSES, "category": [f"class {c}" for c in CLASSES]})
    table["supervision"] = ["novel" if c in novel else "supervised" for c in CLASSES]
    about = dict(run=name, method=run.method, backbone=run.backbone, supervised=run.supervised)
    about |= dict(schedule="130k", seed=seed, instances=1) | {m: ap for m in METRICS}
    both = [table.assign(task=task, **about) for task in ("segm", "bbox")]
    pd.concat(both).to_csv(out / "per_class.csv", index=False)
    return run


def resampler(folder, runs):
    return Resampler(folder / "evaluate", read_per_class(folder, runs), **BOOTSTRAP)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """OPMask with seeds 0 and 1, the detached one with seeds 1 and 2, on the same 60 images."""
    folder = tmp_path_factory.mktemp("runs")
    matches = simulate(np.random.default_rng(0), found=(0.9, 0.8, 0.7, 0.75))
    names = ["opmask-R50-nonvoc"] * 2 + ["opmask_detached-R50-nonvoc"] * 2
    runs = [
        write_run(folder, name, seed, one)
        for name, seed, one in zip(names, (0, 1, 1, 2), matches, strict=True)
    ]
    return folder, runs, matches


def gradients(table):
    return table.set_index("name").loc["mask gradients"]


def test_a_contrast_is_the_paired_difference_of_its_runs(made):
    folder, runs, matches = made
    row = gradients(contrast_table(resampler(folder, runs)))
    expected = difference(matches[:2], matches[2:], NOVEL, **BOOTSTRAP)
    found = row[["difference", "low", "high", "p"]].tolist()
    fields = ("value", "low", "high", "p")
    np.testing.assert_allclose(found, [getattr(expected, f) for f in fields], atol=1e-9)
    means = [interval(m, NOVEL, **BOOTSTRAP).value for m in (matches[:2], matches[2:])]
    assert row[["value_a", "value_b"]].tolist() == pytest.approx(means)
    assert (row["tested"], row["classes"], row["paper"], row["section"]) == (8, "novel", 1.1, "4.4")

    ap = [np.nanmean(weighted_ap(m, np.ones((1, 60)), NOVEL)) for m in matches]
    assert row["seeds"] == 1 and math.isnan(row["sd"])  # only seed 1 is there on both sides
    two = resampler(folder, runs).ap("opmask-R50-nonvoc").by_seed[list(NOVEL)].mean(axis=1)
    assert two.to_dict() == pytest.approx({0: ap[0], 1: ap[1]})


def test_classes_of_a_contrast(made):
    folder, runs, matches = made
    for classes, ids in (("supervised", range(4)), ("all", CLASSES)):
        one = Contrast("x", "", "opmask-R50-nonvoc", "opmask_detached-R50-nonvoc", classes)
        row = contrast_table(resampler(folder, runs), [one]).iloc[0]
        expected = difference(matches[:2], matches[2:], ids, **BOOTSTRAP)
        assert row["difference"] == pytest.approx(expected.value) and row["tested"] == len(ids)


def test_spread_of_seeds_pairs_equal_seeds(tmp_path):
    matches = simulate(np.random.default_rng(1), found=(0.9, 0.8, 0.7, 0.75))
    names = ["opmask-R50-all"] * 2 + ["maskrcnn-R50-all"] * 2
    runs = [
        write_run(tmp_path, name, seed, one, novel=())
        for name, seed, one in zip(names, (0, 1, 0, 1), matches, strict=True)
    ]
    table = contrast_table(resampler(tmp_path, runs))
    row = table.set_index("name").loc["gain all"]
    ap = [np.nanmean(weighted_ap(m, np.ones((1, 60)))) for m in matches]
    assert row["seeds"] == 2 and row["tested"] == 12
    assert row["sd"] == pytest.approx(np.std([ap[0] - ap[2], ap[1] - ap[3]], ddof=1))
    assert f"± {row['sd']:.2f}" in markdown(view.blocks(table))


@pytest.mark.parametrize("name", ["image_ids", "category_ids", "gt_image", "gt_category"])
def test_only_runs_on_one_ground_truth_are_subtracted(name):
    one, *_ = simulate(np.random.default_rng(0), found=(0.9,))
    other = dataclasses.replace(one, **{name: getattr(one, name)[::-1]})
    a, b = (resample({0: matches}, resamples=3, seed=0)["AP"] for matches in (one, other))
    assert not (a - a).draws.any()
    with pytest.raises(ValueError, match="same ground truth"):
        a - b
    with pytest.raises(ValueError, match="same ground truth"):
        resample({0: one, 1: other}, resamples=3, seed=0)


@given(
    st.floats(-3, 3),
    st.lists(st.floats(-2, 2), min_size=2, max_size=40),
)
@settings(deadline=None)
def test_p_is_the_share_of_draws_beyond(estimate, deviations):
    draws = np.array([estimate, *deviations])
    centred = [d - sum(deviations) / len(deviations) for d in deviations]
    below = sum(c <= -estimate for c in centred)
    above = sum(c >= -estimate for c in centred)
    expected = min(1, 2 * (1 + min(below, above)) / (len(deviations) + 1))
    assert p_value(draws) == pytest.approx(expected, abs=2.1 / (len(deviations) + 1))  # ties
    assert 0 < p_value(draws) <= 1


def test_p_by_hand_and_against_a_normal_case():
    assert p_value(np.array([5.0, 4, 5, 6])) == 2 / 4  # no draw is beyond: the floor
    assert p_value(np.array([0.0, -1, 0, 1])) == 1
    assert p_value(np.array([1.0, -2, -1, 0, 1, 2])) == 1  # two of five at or below −1: 2 · 3/6
    rng = np.random.default_rng(0)
    draws = np.r_[1.5, rng.normal(9, 1, 20000)]  # where the draws lie does not matter
    assert p_value(draws) == pytest.approx(2 * stats.norm.sf(1.5), rel=0.05)
    low, high = spread(draws)
    assert (low, high) == pytest.approx((1.5 - 1.96, 1.5 + 1.96), abs=0.05)
    assert math.isnan(p_value(np.array([1.0, np.nan, np.nan])))


def test_p_and_interval_agree(made):
    row = gradients(contrast_table(resampler(*made[:2])))
    assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)


def test_class_interval_against_scipy():
    values = np.random.default_rng(5).normal(2, 3, 40)
    expected = stats.bootstrap((values,), np.mean, method="percentile", random_state=0)
    expected = expected.confidence_interval
    found = class_interval(np.r_[values, np.nan], resamples=9999, seed=1)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.isnan(class_interval(np.array([1.0, np.nan]), resamples=9, seed=0)).all()


def test_holm_over_the_claims_that_were_run(tmp_path):
    matches = simulate(np.random.default_rng(2), found=(0.9, 0.85, 0.8, 0.75))
    names = ["opmask-R50-nonvoc", "opmask_detached-R50-nonvoc"]
    names += ["maskrcnn7-R50-nonvoc", "maskrcnn-R50-nonvoc"]
    pairs = zip(names, matches, strict=True)
    runs = [write_run(tmp_path, name, 0, one) for name, one in pairs]
    table = contrast_table(resampler(tmp_path, runs)).set_index("name")
    family = table.loc[["gain R50 nonvoc", "mask gradients"]].sort_values("p")
    first, second = family["p"]
    holm = [min(1, 2 * first), min(1, max(2 * first, second))]  # by hand, two hypotheses
    assert family["p_holm"].tolist() == pytest.approx(holm)
    control = table.loc["prior nonvoc"]
    assert not math.isnan(control["p"]) and math.isnan(control["p_holm"])
    parts = table.loc[["prior nonvoc", "depth nonvoc"], "difference"].sum()
    assert parts == pytest.approx(table.loc["gain R50 nonvoc", "difference"])


def test_what_was_not_run_says_so(made):
    folder, runs, _ = made
    table = contrast_table(resampler(folder, runs[:2]))
    row = gradients(table)
    assert row["seeds"] == 0 and math.isnan(row["difference"]) and not math.isnan(row["value_a"])
    assert (table["seeds"] == 0).all() and table["p_holm"].isna().all()
    text = markdown(view.blocks(table))
    assert text.startswith("Not run: ") and "| " not in text  # no row of dashes
    assert all(f"{one.a} − {one.b}" in text for one in CONTRASTS)
    nothing = contrast_table(Resampler(folder, read_per_class(folder, []), **BOOTSTRAP))
    assert (nothing["seeds"] == 0).all() and nothing["value_a"].isna().all()


def test_runs_without_a_common_seed_still_have_a_difference(made):
    folder, runs, matches = made
    table = contrast_table(resampler(folder, [runs[0], runs[2]]))
    row = gradients(table)
    expected = difference(matches[:1], matches[2:3], NOVEL, **BOOTSTRAP)
    assert row["difference"] == pytest.approx(expected.value)
    assert "not run" not in next(
        line for line in markdown(view.blocks(table)).splitlines() if "detached" in line
    )


def test_a_single_run_has_the_interval_of_the_bootstrap(made):
    folder, runs, matches = made
    found = resampler(folder, runs).ap("opmask-R50-nonvoc").of(NOVEL).estimate()
    expected = interval(matches[:2], NOVEL, **BOOTSTRAP)
    found = found.value, found.low, found.high
    np.testing.assert_allclose(found, (expected.value, expected.low, expected.high))


def test_declared_contrasts_name_real_runs_and_the_papers_numbers():
    assert len({one.name for one in CONTRASTS}) == len(CONTRASTS)
    table = paper.load("table1").set_index(["backbone", "supervised", "method"])["AP"].sort_index()
    labels = {"maskrcnn": "Our Mask R-CNN", "opmask": "OPMask"}
    stated = {"gain all": 1.6, "mask gradients": 1.1}
    for one in CONTRASTS:
        a, b = (parse_run(name, 0, PARAMS) for name in (one.a, one.b))
        assert a.supervised == b.supervised  # the same classes are novel to both
        numbers = [table.get((r.backbone, r.supervised, labels.get(r.method))) for r in (a, b)]
        expected = stated.get(one.name, math.nan) if None in numbers else np.subtract(*numbers)
        assert one.paper == pytest.approx(expected, nan_ok=True)


def test_stage(tmp_path, monkeypatch, made):
    params = PARAMS | {"bootstrap": BOOTSTRAP, "seeds": [0, 1, 2]}
    params["runs"] = ["opmask-R50-nonvoc", "opmask_detached-R50-nonvoc-130k", "opmask-R50-voc-1x"]
    write_params(params, tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / params["scale"]).symlink_to(made[0])
    monkeypatch.chdir(tmp_path)
    stage.run([])
    folder = tmp_path / "reports" / params["scale"] / "tables"
    table = pd.read_csv(folder / "contrasts.csv")
    rows = dict(list(table.groupby("metric")))
    names = [one.name for one in CONTRASTS]
    assert rows["AP"]["name"].tolist() == rows["IoU"]["name"].tolist() == names
    assert not math.isnan(gradients(rows["AP"])["value_a"])
    assert (rows["IoU"]["seeds"] == 0).all() and rows["IoU"]["difference"].isna().all()
    assert (folder / "contrasts.md").read_text().startswith("# Contrasts")
