"""Table 3 from evaluated runs whose AP is known."""

import math

import pytest
from known_ap import ap, write_ground_truth, write_run
from resampled import difference

from opmask.evaluation.coco_ap import Matches
from study import paper
from study.report.markdown import markdown
from study.report.views import table3 as view
from study.spec.results import read_per_class
from study.spec.run import Run
from study.tables.table3 import table3

BOOTSTRAP = {"resamples": 50, "seed": 0}
# (backbone, schedule, supervised): images right for VOC and other classes, of boxes and of masks
RIGHT = {
    ("R50", "130k", "voc"): {"bbox": (5, 6), "segm": (9, 8)},
    ("R50", "1x", "voc"): {"bbox": (5, 5), "segm": (9, 4)},
    ("R50", "3x", "voc"): {"bbox": (8, 9), "segm": (9, 8)},
    ("R101", "130k", "nonvoc"): {"bbox": (3, 3), "segm": (2, 9)},
}


def run_of(backbone, schedule, supervised):
    name = f"opmask-{backbone}-{supervised}" + ("" if schedule == "130k" else f"-{schedule}")
    return Run(name, "opmask", backbone, supervised, schedule, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    truth = write_ground_truth(folder / "truth.json")
    runs = [run_of(*key) for key in RIGHT]
    for run, right in zip(runs, RIGHT.values(), strict=True):
        write_run(folder / "evaluate", truth, run, right)
    other = Run("maskrcnn-R50-voc", "maskrcnn", "R50", "voc", "130k", 0)  # no row of the table
    write_run(folder / "evaluate", truth, other, {"bbox": (1, 1), "segm": (1, 1)})
    return folder, [*runs, other]


@pytest.fixture(scope="module")
def table(made):
    return table3(read_per_class(*made), made[0] / "evaluate", **BOOTSTRAP)


def row(table, backbone, schedule, supervised, task, classes="novel", minus=""):
    rows = table.query(
        "backbone == @backbone and schedule == @schedule and supervised == @supervised "
        "and task == @task and classes == @classes and minus == @minus"
    )
    assert len(rows) == 1
    return rows.iloc[0]


def test_box_ap_of_all_and_of_novel_classes_beside_mask_ap(table):
    everything = row(table, "R50", "130k", "voc", "bbox", "all")
    assert everything["ours"] == pytest.approx((2 * ap(5) + 3 * ap(6)) / 5)
    assert everything["paper"] == 39.8
    assert everything["ours_minus_paper"] == pytest.approx(everything["ours"] - 39.8)
    novel = row(table, "R50", "130k", "voc", "bbox")
    assert novel["ours"] == pytest.approx(ap(6)) and math.isnan(novel["paper"])
    mask = row(table, "R101", "130k", "nonvoc", "segm")
    assert (mask["ours"], mask["paper"]) == (pytest.approx(ap(2)), 37.1)


@pytest.mark.parametrize(
    ("task", "classes", "ids", "ours", "published"),
    [
        ("segm", "novel", [3, 4, 5], ap(8) - ap(4), 2.9),
        ("bbox", "novel", [3, 4, 5], ap(6) - ap(5), float("nan")),
        ("bbox", "all", [1, 2, 3, 4, 5], 0.6 * (ap(6) - ap(5)), 0.5),
    ],
)
def test_a_difference_of_schedules(made, table, task, classes, ids, ours, published):
    gap = row(table, "R50", "130k", "voc", task, classes, "1x")
    assert gap["ours"] == pytest.approx(ours)
    assert gap["paper"] == pytest.approx(published, nan_ok=True)
    a, b = (
        Matches.load(made[0] / "evaluate" / run_of("R50", s, "voc").key / f"matches_{task}.npz")
        for s in ("130k", "1x")
    )
    expected = difference([a], [b], ids, **BOOTSTRAP)
    assert (gap["low"], gap["high"]) == pytest.approx((expected.low, expected.high))


def test_what_was_not_run_says_so(table):
    assert row(table, "R101", "3x", "nonvoc", "segm")["seeds"] == 0
    gap = row(table, "R101", "130k", "nonvoc", "segm", minus="3x")
    assert gap["seeds"] == 0 and gap["paper"] == pytest.approx(-1.1)
    text = markdown(view.blocks(table, "miniature"))
    assert "not run, paper −1.1" in text
    assert "- 130k − 1x, mask AP, novel: interval above 0 in 1 of 1." in text
    assert "- 130k − 3x, box AP, novel: interval below 0 in 1 of 1." in text
    empty = table3(read_per_class("nowhere", []), "nowhere", **BOOTSTRAP)
    assert len(empty) == len(table) == 10 * 3 + 6 * 3 and empty["ours"].isna().all()
    assert "130k − 1x, mask AP, novel: not run." in markdown(view.blocks(empty, "miniature"))


def test_pages_have_equal_cells_in_every_row(table):
    for block in markdown(view.blocks(table, "coco")).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    lines = [line for line in view.tex(table, "coco").splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in lines[1:]} == {8}


def test_the_paper_s_numbers():
    """Against Table 1 and the text of section 4.5."""
    table = paper.load("table3")
    assert table.shape == (10, 5)
    first = paper.load("table1").query("method == 'OPMask'")
    ours = table.query("schedule == '130k'")
    keys = ["backbone", "supervised"]
    both = first.merge(ours, on=keys, suffixes=("", "_table3"))
    assert len(both) == 4 and (both["AP"] == both["AP_table3"]).all()
    box = table.pivot(index=keys, columns="schedule", values="AP_box")
    assert (box["3x"] > box["130k"]).all()  # "performs best with the 3x schedule"
    mask = table.pivot(index=keys, columns="schedule", values="AP")
    gap = (mask["130k"] - mask["3x"]).xs("voc", level="supervised")
    assert gap.round(1).to_dict() == {"R50": 0.8, "R101": 0.5}
    assert table.query("supervised == 'voc'")["AP"].tolist() == [29.0, 31.9, 31.1, 33.2, 32.7]
