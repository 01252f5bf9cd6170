"""Why it works: which contrasts are made of the controls, what is drawn, and what is said of it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parameters import PARAMS, write_params
from resampled import difference
from scipy import stats
from test_bootstrap import simulate
from test_contrasts import BOOTSTRAP, NOVEL, resampler, write_run

from pipeline import controls as stage
from study.analysis.contrasts import CONTRASTS, contrast_table, further_contrasts
from study.analysis.controls import CONTROLS, USUAL, control_contrasts, controls_table
from study.analysis.estimate import Estimate
from study.figures.controls import draw
from study.labels import MODELS
from study.report.inputs import read_csv
from study.report.markdown import markdown
from study.report.views.controls import answer, paragraphs
from study.report.views.figures import _shows, caption
from study.spec.params import load_params
from study.spec.run import Run, all_runs

COLUMNS = ["claim", "a", "b", "task", "difference", "low", "high", "sd", "seeds"]
PAPERS = load_params(Path(__file__).parents[1] / "params.yaml")


def runs(*names: str) -> list[Run]:
    return [Run.from_name(name, "130k") for name in names]


def frame(*rows: tuple) -> pd.DataFrame:
    """Of contrasts.csv: (a, b, difference, half of the interval over images, sd[, task])."""
    found = [
        ["", f"{a}-R50-voc", f"{b}-R50-voc", *(task or ["segm"]), gain, gain - half, gain + half]
        + [sd, 3]
        for a, b, gain, half, sd, *task in rows
    ]
    return pd.DataFrame(found, columns=COLUMNS)


ROWS = frame(
    ("opmask", "maskrcnn", 2.0, 0.5, 0.3),
    ("opmask_gaussian", "maskrcnn", 1.2, 0.5, 0.2),
    ("opmask", "opmask_gaussian", 0.8, 0.3, 0.1),
    ("opmask", "opmask_constant", 0.8, 0.3, 1.5),  # Student's interval: ± 3.7
    ("opmask_constant", "maskrcnn", 1.2, 0.5, 0.2),
    ("opmask", "opmask_attached", -0.8, 0.3, 0.1),
    ("opmask_attached", "maskrcnn", 2.8, 0.5, 0.2),
)


def test_every_control_is_a_method_with_a_name_and_in_the_suite():
    named = {one["method"] for one in CONTROLS}
    assert named <= set(PAPERS["methods"]) and named <= set(MODELS)
    suite = {Run.from_name(name, "130k").method for name in PAPERS["suites"]["controls"]}
    assert suite == named | {"maskrcnn"}


def test_without_a_control_there_is_nothing():
    """The paper's own runs, OPMask, the deeper head and the detached one among them, are none."""
    assert control_contrasts(all_runs(PAPERS)) == ()
    usual = frame(*[(name, "maskrcnn", 1.0, 0.5, 0.1) for name in sorted(USUAL)])
    table = controls_table(usual)
    assert table.empty and list(table) and not _shows(table)
    assert paragraphs(usual) == []
    draw(table)


def test_every_control_is_set_against_the_baseline_and_against_opmask():
    suite = runs(*PAPERS["suites"]["controls"])
    pairs = {(one.a, one.b): one for one in (*CONTRASTS, *control_contrasts(suite))}
    made = list(control_contrasts(suite))
    assert len({(one.a, one.b) for one in made}) == len(made) == len({one.name for one in made})
    assert not {one.name for one in made} & {one.name for one in CONTRASTS}
    for split in ("voc", "nonvoc"):
        for one in CONTROLS:
            masks = "all" if one.get("all") else split
            assert (f"{one['method']}-R50-{masks}", f"maskrcnn-R50-{split}") in pairs
        assert (f"opmask-R50-{split}", f"opmask_gaussian-R50-{split}") in pairs
        assert (f"opmask_gt-R50-{split}", f"maskrcnn_gt-R50-{split}") in pairs
    assert further_contrasts(suite, (*CONTRASTS, *made)) == ()


def test_only_what_was_run_is_compared():
    some = runs("opmask-R50-voc", "opmask_gaussian-R50-voc", "opmask_gaussian-R50-nonvoc")
    assert [(one.a, one.b) for one in control_contrasts(some)] == [
        ("opmask-R50-voc", "opmask_gaussian-R50-voc")
    ]


def test_a_bound_with_all_masks_is_measured_on_the_classes_novel_to_the_baseline(tmp_path):
    upper, baseline = simulate(np.random.default_rng(3), found=(0.9, 0.6))
    made = [
        write_run(tmp_path, "maskrcnn_specific-R50-all", 0, upper, novel=()),
        write_run(tmp_path, "maskrcnn-R50-voc", 0, baseline),
    ]
    table = contrast_table(resampler(tmp_path, made), control_contrasts(made))
    (row,) = table.to_dict("records")
    assert row["claim"].startswith("Upper bound")
    expected = difference([upper], [baseline], NOVEL, **BOOTSTRAP)
    assert row["difference"] == pytest.approx(expected.value) and row["tested"] == len(NOVEL)
    (drawn,) = controls_table(table).to_dict("records")
    assert drawn["all_masks"] and drawn["supervised"] == "voc" and math.isnan(drawn["seeds_low"])


def test_the_figures_table_has_both_intervals_and_every_measure():
    both = pd.concat([ROWS, ROWS.assign(task="oracle", difference=ROWS["difference"] + 5)])
    table = controls_table(both)
    assert set(table["task"]) == {"segm", "oracle"} and len(table) == 2 * 4
    row = table.set_index(["task", "method"]).loc[("segm", "opmask_gaussian")]
    half = stats.t.ppf(0.975, 2) * 0.2 / math.sqrt(3)
    assert (row["gain"], row["low"], row["high"]) == pytest.approx((1.2, 0.7, 1.7))
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((1.2 - half, 1.2 + half))
    assert [len(draw(one).axes) for one in (table, controls_table(ROWS))] == [2, 1]


def test_an_answer_needs_all_its_intervals_on_one_side():
    text = markdown(paragraphs(ROWS))
    assert "a Gaussian in the box? voc → non-voc: yes, +0.80 (+0.50 to +1.10), ± 0.10" in text
    assert "Does the prior need a shape? voc → non-voc: not decided, +0.80 (+0.50 to +1.10)" in text
    assert "do not train the classifier? voc → non-voc: no, −0.80 (−1.10 to −0.50)" in text
    assert "takes: none of what was asked." in text and "with fewer seeds" not in text


def test_what_the_gain_takes_is_what_both_directions_say():
    other = ROWS.replace({"a": "-voc", "b": "-voc"}, "-nonvoc", regex=True)
    text, _ = paragraphs(pd.concat([ROWS, other]))
    assert "gain takes: the prior and three more convolutions; more than location. The" in text
    assert "The opposite is better in both: a classifier that masks do not train. Not" in text
    assert "Not decided, or not in both: a prior with a shape. An" in text
    one_seed = pd.concat([ROWS, other]).assign(seeds=1, sd=math.nan)
    assert "with fewer seeds the noise between trainings is not in it" in paragraphs(one_seed)[0]
    oracle = pd.concat([ROWS, ROWS.assign(task="oracle")])
    assert [text[:40] for text in paragraphs(oracle)[::2]] == [
        "**Why it works**, by mask AP. In both di", "**Why it works**, by mask IoU in true bo"
    ]  # fmt: skip


def test_without_any_interval_nothing_is_decided():
    assert answer(Estimate("x", 3.0)) == "not decided"


def test_stage(tmp_path, monkeypatch):
    write_params(PARAMS, tmp_path)
    tables = tmp_path / "reports" / PARAMS["scale"] / "tables"
    tables.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for rows, count in ((ROWS, 4), (ROWS.iloc[:1], 0)):
        rows.to_csv(tables / "contrasts.csv", index=False)
        stage.run([])
        found = pd.read_csv(tables.with_name("figures") / "controls.csv")
        assert len(found) == count
    other = tmp_path / "reports" / "experiments" / "why"  # has the controls that the report lacks
    other.mkdir(parents=True)
    pd.DataFrame({"scale": [PARAMS["scale"]]}).to_csv(other / "gains.csv", index=False)
    ROWS.to_csv(other / "contrasts.csv", index=False)
    stage.run([])
    found = read_csv(tables.with_name("figures") / "controls.csv")
    assert set(found["experiment"]) == {"why"} and len(found) == 4
    assert "experiment why](../experiments/why/README.md)" in caption(found)
    ROWS.to_csv(tables / "contrasts.csv", index=False)
    stage.run([])  # its own come first
    assert "experiment" not in read_csv(tables.with_name("figures") / "controls.csv")
    assert all(
        (tables.with_name("figures") / f"controls.{kind}").is_file() for kind in ("png", "svg")
    )
