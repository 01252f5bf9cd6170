"""Table 1 from hand-made per-class results: every number below was worked out by hand."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from opmask.errors import UserError
from study import paper
from study.analysis.comparison import Comparison, comparisons
from study.analysis.estimate import Noise
from study.format import duration, interval, signed
from study.labels import METHODS, shown_backbones
from study.report.blocks import Table
from study.report.html import body_rows
from study.report.latex import latex
from study.report.markdown import markdown
from study.report.sentences import gain, headline
from study.report.views import table1 as view
from study.spec.results import METRICS, read_per_class, summarise
from study.spec.run import Run
from study.tables.table1 import count_objects, table1

NAN = float("nan")


def per_class(method, seed, novel, box=(50, 70), supervised=40.0, backbone="R50", split="voc"):
    """One run: novel mask AP of the classes in `novel` (other metrics: AP + 1, + 2 …, APs NaN for
    the last class), novel box AP, AP50, and supervised mask AP of a single class."""
    run = dict(run=f"{method}-{backbone}-{split}", method=method, backbone=backbone)
    run |= dict(supervised=split, schedule="130k", seed=seed)
    rows = []
    for i, ap in enumerate(novel):
        values = {metric: ap + step for step, metric in enumerate(METRICS)}
        if i == len(novel) - 1:
            values["APs"] = NAN
        rows.append(dict(category_id=i, supervision="novel", task="segm") | values)
        values = dict.fromkeys(METRICS, 0.0) | {"AP": box[0], "AP50": box[1]}
        rows.append(dict(category_id=i, supervision="novel", task="bbox") | values)
    values = dict.fromkeys(METRICS, supervised)
    rows.append(dict(category_id=99, supervision="supervised", task="segm") | values)
    return pd.DataFrame([run | row | {"category": "x", "instances": 1} for row in rows])


def page(table, scale="coco"):
    return markdown(view.blocks(table, scale))


def make_table(*frames, gains=None):
    return table1(summarise(pd.concat(frames)), gains or {})


def cell(table, method, metric="AP", task="segm", classes="novel", backbone="R50", split="voc"):
    rows = table.query(
        "method == @method and metric == @metric and task == @task and classes == @classes "
        "and backbone == @backbone and supervised == @split"
    )
    assert len(rows) == 1
    return rows.iloc[0]


SILENT = Noise(0.0, 4)
QUIET = [pd.DataFrame({"backbone": "R50", "supervised": "voc", "seed": [0, 1], "gain": [1.0, 1.0]})]
ONE_SEED = per_class("maskrcnn", 0, [10, 20]), per_class("opmask", 0, [20, 40], box=(60, 80))
GAINS = {"AP": SimpleNamespace(low=12.345, high=17.0), "AP75": SimpleNamespace(low=9.0, high=21.0)}


def test_cells_of_one_seed():
    table = make_table(*ONE_SEED, gains={("R50", "voc"): GAINS})
    baseline, ours = cell(table, "Our Mask R-CNN"), cell(table, "OPMask")
    assert (baseline["ours"], ours["ours"]) == (15, 30)  # means of 10 20 and of 20 40
    assert (baseline["paper"], ours["paper"]) == (18.9, 31.9)
    assert ours["ours_minus_paper"] == pytest.approx(-1.9)
    assert ours["seeds"] == 1 and math.isnan(ours["sd"])
    gain = cell(table, "difference")
    assert (gain["ours"], gain["low"], gain["high"]) == (15, 12.345, 17.0)
    assert gain["paper"] == pytest.approx(13.0) and gain["ours_minus_paper"] == pytest.approx(2.0)
    assert cell(table, "OPMask", "AP50")["ours"] == 31
    assert cell(table, "OPMask", "APs")["ours"] == 23  # the class without small objects is left out
    strict = cell(table, "difference", "AP75")
    assert (strict["ours"], strict["low"], strict["high"]) == (15, 9, 21)
    assert math.isnan(cell(table, "difference", "AP50")["low"])  # not bootstrapped here
    assert math.isnan(cell(table, "difference", task="bbox")["low"])


def test_context_has_no_number_of_the_paper():
    table = make_table(*ONE_SEED)
    box = cell(table, "difference", "AP50", task="bbox")
    assert box["ours"] == 10 and math.isnan(box["paper"])
    assert cell(table, "OPMask", classes="supervised")["ours"] == 40


def test_two_seeds_give_mean_and_spread():
    more = per_class("maskrcnn", 1, [14, 20]), per_class("opmask", 1, [22, 44])
    table = make_table(*ONE_SEED, *more)
    ours = cell(table, "OPMask")
    assert ours["ours"] == 31.5 and ours["seeds"] == 2  # of 30 and 33
    assert ours["sd"] == pytest.approx(3 / math.sqrt(2))
    gain = cell(table, "difference")  # by seed 15 and 16
    assert gain["ours"] == 15.5 and gain["sd"] == pytest.approx(1 / math.sqrt(2))
    assert "31.5 ± 2.1" in page(table, "coco")


def test_unequal_seeds_keep_the_columns_consistent():
    table = make_table(*ONE_SEED, per_class("opmask", 1, [22, 44]))
    gain = cell(table, "difference")
    assert gain["ours"] == 31.5 - 15 and gain["seeds"] == 1 and math.isnan(gain["sd"])


def test_what_was_not_run_says_so():
    table = make_table(*ONE_SEED, gains={("R50", "voc"): GAINS})
    assert cell(table, "OPMask", backbone="R101")["seeds"] == 0
    found = comparisons(table)
    # of one training without any other nothing is decided
    assert [one.verdict for one in found] == ["not run", "undecided", "not run", "not run"]
    again = comparisons(table, QUIET)
    assert [one.verdict for one in again] == ["not run", "shown", "not run", "not run"]
    text = page(table, "miniature")
    rows = [line for line in text.splitlines() if line.startswith("| R-101-FPN")]
    assert rows and all("not run" in line or "quoted" in line for line in rows)


def test_an_ap_of_few_objects_is_their_number_on_pages():
    annotations = [{"category_id": 0, "area": area} for area in [10] * 40 + [96**2] * 3]
    annotations += [{"category_id": 99, "area": 10**5}]  # supervised
    annotations += [{"category_id": 1, "area": 10**5, "iscrowd": crowd} for crowd in (0, 1)]
    everything = pd.concat(ONE_SEED)
    counts = count_objects(everything, annotations)
    found = {metric: counts["voc", "novel", metric] for metric in METRICS}
    assert found == {"AP": 44, "AP50": 44, "AP75": 44, "APs": 40, "APm": 3, "APl": 4}
    table = table1(summarise(everything), {}, counts)
    large = cell(table, "OPMask", "APl")
    assert (large["ours"], large["objects"]) == (35, 4)  # the csv has both
    frame = view.body(table)[1].frame
    lines = frame[frame["Backbone"].replace("", None).ffill() == "R-50-FPN"]
    at = lines.index[lines["Method"] == "OPMask"][0]
    assert lines.loc[at, ["AP", "APs", "APl"]].tolist() == ["30.0", "23.0", "n = 4"]
    assert lines.loc[at + 2, ["Whose", "APl"]].tolist() == ["ours − paper", "–"]
    assert lines.loc[at + 3, ["Method", "APl"]].tolist() == ["difference", "n = 4"]
    styles = {
        c.style for _, row in body_rows(view.body(table)[1]) for c in row if c.value == "n = 4"
    }
    assert styles == {"few"}  # which is not bold


def test_other_systems_are_quoted_and_never_ours():
    table = make_table(*ONE_SEED)
    quoted = table[table["quoted"]]
    assert quoted[["ours", "low", "ours_minus_paper"]].isna().all(axis=None)
    published = paper.load("table1")
    others = published[~published["method"].isin(["OPMask", "Our Mask R-CNN"])]
    assert len(quoted) == len(others) * len(METRICS) == 96
    assert cell(table, "ShapeMask", "APl", backbone="R101")["paper"] == 28.4
    assert not quoted["method"].isin([*METHODS.values(), "difference"]).any()
    text = page(table, "coco")
    r50 = "| R-50-FPN   | Mask R-CNN w/ ShapeProp | quoted"
    assert [line for line in text.splitlines() if line.startswith(r50)][1].endswith("44.7 |")
    frame = view.body(table)[1].frame
    order = frame.query("Backbone == 'R-101-FPN'")["Method"].drop_duplicates().tolist()
    paper_order = published.query("supervised == 'voc' and backbone == 'R101'")["method"]
    assert order == [*paper_order, "difference"]


def test_latex_has_the_rows_of_the_markdown():
    table = make_table(*ONE_SEED, gains={("R50", "voc"): GAINS})
    text = view.tex(table, "a_b")
    assert text.count(r"\begin{tabular}{lllrrrrrr}") == text.count(r"\bottomrule") == 2
    assert r"non-voc $\rightarrow$ voc, scale a\_b" in text and r"$-$1.9" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) > 40 and {line.count("&") for line in rows} == {8}
    assert r"R-101-FPN & CPMask & quoted & 34.0 & 53.7 & 36.5 & 18.5 & 38.9 & 47.4 \\" in rows


def test_no_run_at_all():
    empty = summarise(read_per_class("nowhere", []))
    text = page(table1(empty, {}), "miniature")
    assert text.count("not run") > 4
    assert "none of the 4 comparisons" in headline(comparisons(table1(empty, {})), "miniature")


def test_one_method_alone_is_not_a_comparison():
    (found,) = [c for c in comparisons(make_table(ONE_SEED[1])) if c.seeds or c.opmask == 30]
    assert found.opmask == 30 and math.isnan(found.baseline) and found.verdict == "not run"


def test_markdown_rows_have_equal_cells():
    text = page(make_table(*ONE_SEED, gains={("R50", "voc"): GAINS}), "miniature")
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "+12.35 to +17.00" in text or "+12.34 to +17.00" in text
    assert "+15.00 (+9.00 to +21.00)" in text
    assert "context, not a target" in text
    assert "context, not a target" not in page(make_table(*ONE_SEED), "coco")


def compare(low, high, noise=SILENT):
    gain = (low + high) / 2
    methods = {"baseline": 10.0, "opmask": 10 + gain, "backbone": "R50", "supervised": "voc"}
    return Comparison("x", gain, low, high, paper=13, seeds=1, noise=noise, **methods)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (0.5, 1.5, "shown", "x: +1.00 AP (10.00 → 11.00), 95 % interval +0.50 to +1.50"),
        (-0.5, 1.5, "undecided", "; paper +13.0: sign not decided"),
        (0.0, 1.0, "undecided", "sign not decided"),
        (-3.0, -1.0, "reversed", "x: −2.00 AP (10.00 → 8.00)"),
        (NAN, NAN, "not run", "not run"),
    ],
)
def test_verdict_and_sentence(low, high, verdict, words):
    one = compare(low, high)
    assert one.verdict == verdict and words in gain(one)
    assert ("sign not reproduced" in gain(one)) == (verdict == "reversed")
    assert ("sign reproduced" in gain(one)) == (verdict == "shown")


def test_noise_between_trainings_decides_with():
    """Seeds' gains of 1 and 3, variance 2, one degree of freedom; then seeds of the runs' own."""
    gains = QUIET[0].assign(gain=[1.0, 3.0])
    table = make_table(*ONE_SEED, gains={("R50", "voc"): GAINS})
    one = next(one for one in comparisons(table, [gains]) if one.ran)
    assert (one.noise.sd, one.noise.df) == (pytest.approx(2**0.5), 1)
    assert one.whole().low < one.low and "over trainings too" in gain(one)
    assert (
        "not known" in gain(compare(1, 2, Noise()))
        and compare(1, 2, Noise()).verdict == "undecided"
    )
    own = table.copy()
    own.loc[(own["method"] == "difference") & (own["backbone"] == "R50"), ["sd", "seeds"]] = [
        0.5,
        3,
    ]
    found = [one for one in comparisons(own, [gains]) if one.ran]
    assert {one.noise.sd for one in found} == {0.5}


def test_headline_counts_what_failed_too():
    text = headline([compare(1, 2), compare(-1, 2), compare(-2, -1), compare(NAN, NAN)], "smoke")
    assert "in 1 of 3 comparisons" in text and "1 not decided" in text
    assert "1 the other way round" in text and "1 not run" in text


def test_paper_numbers():
    table = paper.load("table1")
    assert len(table) == 24 and not table.isna().any(axis=None)
    ap = table.set_index(["backbone", "supervised", "method"])["AP"]
    assert ap["R50", "voc", "OPMask"] == 31.9 and ap["R50", "voc", "Our Mask R-CNN"] == 18.9
    assert ap["R50", "nonvoc", "OPMask"] - ap["R50", "nonvoc", "Our Mask R-CNN"] == pytest.approx(
        10.1
    )
    # section 4.3 in words: 0.3 above CPMask, and 0.8 below it the other way
    for split, gap in (("nonvoc", 0.3), ("voc", -0.8)):
        assert ap["R101", split, "OPMask"] - ap["R101", split, "CPMask"] == pytest.approx(gap)
    assert (table["AP50"] > table["AP"]).all() and (table["APl"] > table["APs"]).all()
    last = table.query("backbone == 'R101' and supervised == 'voc' and method == 'OPMask'")
    assert last[METRICS].values.tolist() == [[33.2, 53.5, 35.2, 17.2, 37.1, 46.9]]


RUN = Run("opmask-R50-voc", "opmask", "R50", "voc", "130k", 0)


def write_per_class(tmp_path, frame):
    folder = tmp_path / "evaluate" / RUN.key
    folder.mkdir(parents=True)
    frame.to_csv(folder / "per_class.csv", index=False)


def test_reading_keeps_a_class_called_na(tmp_path):
    write_per_class(tmp_path, per_class("opmask", 0, [1, 2]).assign(category="NA"))
    found = read_per_class(tmp_path, [RUN])
    assert set(found["category"]) == {"NA"} and found["APs"].isna().sum() == 1


def test_same_configuration_under_two_names_counts_once(tmp_path):
    write_per_class(tmp_path, per_class("opmask", 0, [1, 2]))
    twin = Run("opmask-R50-voc-130k", "opmask", "R50", "voc", "130k", 0)
    source = tmp_path / "evaluate" / RUN.key
    source.with_name(twin.key).symlink_to(source)
    assert len(read_per_class(tmp_path, [RUN, twin])) == len(read_per_class(tmp_path, [RUN]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="APm"), "column 'APm' is missing"),
        (lambda frame: frame.assign(schedule="3x"), "schedule is '3x', but .* '130k'"),
    ],
)
def test_results_of_other_settings_are_refused(tmp_path, change, message):
    write_per_class(tmp_path, change(per_class("opmask", 0, [1, 2])))
    with pytest.raises(UserError, match=message):
        read_per_class(tmp_path, [RUN])


def test_a_backbone_that_the_paper_does_not_have_stands_beside_it():
    other = [frame.assign(backbone="lite0", run="x") for frame in ONE_SEED]
    table = make_table(*other, gains={("lite0", "voc"): GAINS})
    ours = cell(table, "OPMask", backbone="lite0")
    assert (ours["ours"], ours["seeds"]) == (30, 1) and math.isnan(ours["paper"])
    assert cell(table, "OPMask")["seeds"] == 0 and cell(table, "OPMask")["paper"] == 31.9
    assert set(table.query("backbone == 'lite0'")["method"]) == {*METHODS.values(), "difference"}
    (nonvoc, voc) = comparisons(table, QUIET)  # of the paper's none was run: not shown
    assert (voc.name, voc.verdict, nonvoc.verdict) == (
        "lite0-FPN, voc → non-voc",
        "shown",
        "not run",
    )
    assert gain(voc).endswith("(the paper has no such backbone)")
    said = headline([nonvoc, voc], "coco_small")
    assert "in 1 of 1 comparisons" in said and said.endswith("; 1 not run.")
    text = page(table, "coco_small")
    assert "lite0-FPN" in text and "R-50-FPN" not in text
    assert "ours − paper" not in text  # nothing to compare with
    both = make_table(*other, *ONE_SEED)
    assert [one.backbone for one in comparisons(both)] == ["R50"] * 2 + ["R101"] * 2 + ["lite0"] * 2
    assert {"R-50-FPN", "R-101-FPN", "lite0-FPN"} <= set(view.body(both)[0].frame["Backbone"])
    assert shown_backbones([]) == ["R50", "R101"]


def test_markdown_numbers_and_escapes():
    assert [signed(v) for v in (1.26, -1.26, 0.0, -0.01, 0.04, NAN)] == (
        ["+1.3", "−1.3", "0.0", "0.0", "0.0", "–"]
    )
    assert [duration(s) for s in (42, 780, 18720)] == ["42 s", "13 min", "5.2 h"]
    assert (interval(-1, 2.5), interval(NAN, NAN)) == ("−1.00 to +2.50", "–")
    text = markdown(Table(pd.DataFrame({"a|b": ["x|y", "two\nlines <b>"]})))
    assert text.splitlines()[0].count("|") == 3 and "a\\|b" in text
    assert "x\\|y" in text and "two lines &lt;b>" in text
    assert len(text.splitlines()) == 4


def test_latex_escapes_everything_once():
    frame = pd.DataFrame({"a_b": ["50 % & {x}", "\\~^#$ <|>"]})
    text = latex(Table(frame), "100 %\nof a_b ± 1", "tab:x")
    assert r"a\_b \\" in text and r"50 \% \& \{x\} \\" in text
    specials = r"\textbackslash{}\textasciitilde{}\textasciicircum{}\#\$ "
    assert specials + r"\textless{}\textbar{}\textgreater{} \\" in text
    assert r"\caption{100 \% of a\_b $\pm$ 1}" in text and r"\label{tab:x}" in text
