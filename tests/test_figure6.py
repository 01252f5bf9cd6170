"""Figure 6: every point is a bootstrap of its runs on the classes it says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parameters import write_params
from resampled import difference, interval
from test_bootstrap import simulate
from test_contrasts import BOOTSTRAP, CLASSES, resampler, write_run

from opmask.data.splits import COCO_CLASSES, resolve
from pipeline import figure6 as stage
from study import paper
from study.figures.figure6 import POINTS, TESTED, draw, figure6_table
from study.spec.params import load_params

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}
NOVEL = {"voc": range(3, 12), "nonvoc": range(3), "all": range(0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All points but voc20; at full supervision OPMask alone was run, with two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    matches = simulate(np.random.default_rng(0), found=(0.9, 0.8, 0.7, 0.75, 0.6, 0.65))
    names = ["opmask-R50-voc", "maskrcnn-R50-voc", "opmask-R50-nonvoc", "maskrcnn-R50-nonvoc"]
    names += ["opmask-R50-all"] * 2
    seeds = (0, 0, 0, 0, 0, 1)
    runs = [
        write_run(folder, name, seed, one, novel=NOVEL[name.split("-")[2]])
        for name, seed, one in zip(names, seeds, matches, strict=True)
    ]
    return folder, runs, matches


def point(table, supervised, method, measure="paper"):
    rows = table.query("supervised == @supervised and method == @method and measure == @measure")
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize(("supervised", "first"), [("voc", 0), ("nonvoc", 2)])
@pytest.mark.parametrize("measure", ["paper", "all"])
def test_points_and_gains(made, supervised, first, measure):
    folder, runs, matches = made
    table = figure6_table(resampler(folder, runs))
    ids = list(NOVEL[supervised] if measure == "paper" else CLASSES)
    for method, one in (("opmask", matches[first]), ("maskrcnn", matches[first + 1])):
        row, expected = point(table, supervised, method, measure), interval([one], ids, **BOOTSTRAP)
        found = row[["ap", "low", "high"]].to_list()
        np.testing.assert_allclose(found, [expected.value, expected.low, expected.high])
        assert (row["seeds"], row["tested_classes"]) == (1, len(ids))
    gain = difference(matches[first : first + 1], matches[first + 1 : first + 2], ids,
                             **BOOTSTRAP)  # fmt: skip
    row = point(table, supervised, "difference", measure)
    found = row[["ap", "low", "high"]].to_list()
    np.testing.assert_allclose(found, [gain.value, gain.low, gain.high])
    assert (row["paper"] == {"voc": 13.0, "nonvoc": 10.1}[supervised]) == (measure == "paper")


def test_full_supervision_is_tested_on_all_classes(made):
    folder, runs, matches = made
    table = figure6_table(resampler(folder, runs))
    ours = point(table, "all", "opmask")
    expected = interval(matches[4:], list(CLASSES), **BOOTSTRAP)
    assert ours["ap"] == pytest.approx(expected.value)
    assert (ours["seeds"], ours["tested_classes"]) == (2, 12) and ours["sd"] > 0
    assert ours["ap"] == point(table, "all", "opmask", "all")["ap"]
    gain = point(table, "all", "difference")
    assert np.isnan(gain["ap"]) and gain["seeds"] == 0 and gain["paper"] == 1.6


def test_what_was_not_run_is_written_in_its_place(made):
    folder, runs, _ = made
    table = figure6_table(resampler(folder, runs))
    assert (table.query("supervised == 'voc20'")["seeds"] == 0).all()
    assert len(table) == 4 * 2 * 3

    def gaps(table):
        texts = [text for axes in draw(table).axes for text in axes.texts]
        return [text.get_position()[0] for text in texts if text.get_text() == "not run"]

    assert gaps(table) == [40, 40]
    nothing = figure6_table(resampler(folder, []))
    assert sorted(set(gaps(nothing))) == [20, 40, 60, 80]


def test_points_are_the_papers_splits():
    categories = [{"name": name} for name in COCO_CLASSES]
    for supervised, count in POINTS.items():
        split = resolve(supervised, categories)
        assert len(split.supervised) == count
        assert TESTED[supervised].split()[0 if split.novel else 1] == str(len(split.evaluated))


def test_papers_numbers_are_those_of_table_1():
    table1 = paper.load("table1").set_index(["backbone", "supervised", "method"])["AP"].sort_index()
    stated = paper.load("figure6").set_index(["supervised", "method"])
    for supervised in ("voc", "nonvoc"):
        rows = stated.loc[supervised, "AP"]
        for method in ("Our Mask R-CNN", "OPMask"):
            assert rows[method] == table1["R50", supervised, method]
        assert rows["difference"] == pytest.approx(rows["OPMask"] - rows["Our Mask R-CNN"])
    assert stated.loc["voc20", "AP"].isna().all()
    assert stated["AP"].notna().eq(stated["source"] != "no number in the text").all()


def test_stage(tmp_path, monkeypatch, made):
    params = PARAMS | {"bootstrap": BOOTSTRAP, "runs": ["opmask-R50-voc", "maskrcnn-R50-voc"]}
    write_params(params, tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / params["scale"]).symlink_to(made[0])
    monkeypatch.chdir(tmp_path)
    stage.run([])
    folder = tmp_path / "reports" / params["scale"] / "figures"
    table = pd.read_csv(folder / "figure6.csv")
    assert point(table, "voc", "opmask")["seeds"] == 1
    assert point(table, "nonvoc", "opmask")["seeds"] == 0
    assert all((folder / f"figure6.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))
