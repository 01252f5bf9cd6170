"""Table 2 from evaluated runs whose AP is known, and the paper's numbers against themselves."""

import math

import pytest
from known_ap import ap, write_ground_truth, write_run
from resampled import difference

from opmask.evaluation.coco_ap import Matches
from study import paper
from study.report.markdown import markdown
from study.report.views import table2 as view
from study.spec.run import Run
from study.tables.table2 import CONTRASTS, read_cam, table2
from study.tables.table2_rows import is_row

BOOTSTRAP = {"resamples": 50, "seed": 0}
# images right, of classes of VOC and of the others
RIGHT = {
    ("fasterrcnn", "all"): (1, 0),
    ("maskrcnn", "all"): (1, 1),
    ("opmask", "all"): (9, 6),
    ("maskrcnn", "voc"): (2, 0),
    ("opmask", "voc"): (8, 3),
}


def run_of(method, supervised, seed=0):
    return Run(f"{method}-R50-{supervised}", method, "R50", supervised, "130k", seed)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of stage `cam`, and its runs: all but those supervised by nonvoc."""
    folder = tmp_path_factory.mktemp("cam")
    truth = write_ground_truth(folder / "truth.json")
    runs = [run_of(*row) for row in RIGHT] + [run_of("opmask", "voc", 1)]
    for run in runs:
        right = RIGHT[run.method, run.supervised]
        write_run(folder, truth, run, {"segm": (right[0] + run.seed, right[1])})
    return folder, runs


@pytest.fixture(scope="module")
def table(made):
    return table2(read_cam(*made), made[0], **BOOTSTRAP)


def row(table, a, b=("", ""), classes="all", metric="AP"):
    keys = ["method", "supervised", "minus_method", "minus_supervised"]
    rows = table[(table[keys] == [*a, *b]).all(axis=1)]
    rows = rows[(rows["classes"] == classes) & (rows["metric"] == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_cells_are_means_over_the_classes_tested(table):
    for metric in ("AP", "AP50"):
        ours = row(table, ("opmask", "all"), metric=metric)
        assert ours["ours"] == pytest.approx((2 * ap(9) + 3 * ap(6)) / 5)
        assert ours["paper"] == {"AP": 8.8, "AP50": 34.1}[metric]
    ours = row(table, ("opmask", "all"), classes="voc")
    assert (ours["ours"], ours["paper"]) == (pytest.approx(ap(9)), 9.9)
    ours = row(table, ("maskrcnn", "voc"), classes="nonvoc")
    assert (ours["ours"], ours["paper"]) == (0, 0.2)
    assert ours["seeds"] == 1 and math.isnan(ours["sd"]) and math.isnan(ours["low"])


def test_seeds_are_averaged(table):
    ours = row(table, ("opmask", "voc"), classes="voc")
    assert ours["seeds"] == 2 and ours["ours"] == pytest.approx((ap(8) + ap(9)) / 2)
    assert ours["sd"] == pytest.approx((ap(9) - ap(8)) / math.sqrt(2))


def test_a_difference_has_the_bootstrap_interval_of_its_classes(made, table):
    gap = row(table, ("opmask", "voc"), ("maskrcnn", "voc"), "nonvoc")
    assert gap["ours"] == pytest.approx(ap(3)) and gap["paper"] == pytest.approx(3.1)

    def matches(run):
        return Matches.load(made[0] / run.key / "matches_segm.npz")

    ours = [matches(run_of("opmask", "voc", seed)) for seed in (0, 1)]
    expected = difference(ours, [matches(run_of("maskrcnn", "voc"))], [3, 4, 5], **BOOTSTRAP)
    assert (gap["low"], gap["high"]) == pytest.approx((expected.low, expected.high))
    assert gap["low"] < gap["ours"] < gap["high"]
    assert gap["seeds"] == 1 and math.isnan(gap["sd"])  # only seed 0 was run of both


def test_every_difference_that_the_paper_argues_from():
    names = {(a[0], b[0]) for a, b in CONTRASTS}
    assert names == {("opmask", "maskrcnn"), ("opmask", "fasterrcnn"), ("maskrcnn", "fasterrcnn")}
    assert len(CONTRASTS) == 9 and all(b[1] in ("all", a[1]) for a, b in CONTRASTS)


def test_what_was_not_run_says_so(table):
    assert row(table, ("opmask", "nonvoc"))["seeds"] == 0
    gap = row(table, ("opmask", "nonvoc"), ("fasterrcnn", "all"))
    assert gap["seeds"] == 0 and math.isnan(gap["low"]) and gap["paper"] == pytest.approx(7.8)
    text = markdown(view.blocks(table, "miniature"))
    assert "| OPMask (non-voc) − Mask R-CNN (non-voc)   |" in text and "not run, paper +7.8" in text
    assert "- OPMask − Mask R-CNN: interval above 0 in 6 of 6." in text
    third = "- Mask R-CNN − Faster R-CNN: interval above 0 in 2 of 6, including 0 in 4."
    assert third in text
    empty = table2(read_cam("nowhere", []), "nowhere", **BOOTSTRAP)
    assert empty["ours"].isna().all() and len(empty) == len(table) == 7 * 6 + 9 * 6
    assert "- OPMask − Mask R-CNN: not run." in markdown(view.blocks(empty, "miniature"))


def test_pages_have_equal_cells_in_every_row(table):
    for block in markdown(view.blocks(table, "coco")).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    text = view.tex(table, "my_scale")
    assert r"scale my\_scale" in text and r"\multicolumn{2}{c}{test on non-voc}" in text
    rows = [
        line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line
    ]
    assert {line.count("&") for line in rows} == {8}
    assert len(rows) == 1 + 5 * 3 + 2 * 2  # two were not run


def test_a_configuration_under_two_names_counts_once(made):
    folder, runs = made
    twin = Run("opmask-R50-all-130k", "opmask", "R50", "all", "130k", 0)
    (folder / twin.key).symlink_to(folder / run_of("opmask", "all").key)
    assert len(read_cam(folder, [*runs, twin])) == len(read_cam(folder, runs))


def test_rows_are_runs_of_the_global_schedule():
    assert is_row(run_of("fasterrcnn", "all"), "130k") and not is_row(run_of("opmask", "all"), "3x")
    assert not is_row(run_of("fasterrcnn", "voc"), "130k")
    assert not is_row(run_of("opmask", "voc20"), "130k")
    assert not is_row(run_of("maskrcnn7", "voc"), "130k")
    assert not is_row(Run("opmask-R101-voc", "opmask", "R101", "voc", "130k", 0), "130k")


def test_the_paper_s_columns_agree_but_for_one():
    """AP of all 80 classes is the weighted mean of 20 and 60, up to rounding of all three."""
    table = paper.load("table2").set_index(["method", "supervised", "classes"])
    assert table.shape == (21, 2)
    wrong = [
        (*name, metric)
        for name, rows in table.groupby(level=[0, 1])
        for metric, values in rows.droplevel([0, 1]).items()
        if abs(values["all"] - (20 * values["voc"] + 60 * values["nonvoc"]) / 80) > 0.1001
    ]
    assert wrong == [("Mask R-CNN", "voc", "AP50")]
