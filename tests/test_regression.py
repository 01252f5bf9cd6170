"""Figure 3's regressions against scipy and textbook formulas; the page and figure they make."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation, Text
from parameters import write_params
from scipy import stats

from opmask.data.splits import COCO_CLASSES, VOC_CLASSES
from pipeline.regression import run
from study import paper
from study.analysis.class_points import class_points, largest_relative
from study.analysis.overlap import READINGS
from study.analysis.regression import fit_line, implied_r, regress, regress_readings, williams
from study.figures.figure3 import figure3
from study.report.markdown import markdown
from study.report.views import regression as view
from study.spec.params import load_params
from study.spec.results import METRICS
from study.spec.run import all_runs

NAN = float("nan")


def make_overlap(names=COCO_CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"category_id": range(1, len(names) + 1), "category": names})
    frame["instances"] = 10
    for reading in READINGS:
        frame[reading] = 0.05 + 0.2 * rng.random(len(names))
    return frame


def make_per_class(ap, seeds=(0,), split_of=None, methods=("maskrcnn", "opmask")):
    """Both directions and tasks; `ap(method, name, novel, seed)` of each class, box AP 99."""
    rows = []
    for method in methods:
        for split in ("voc", "nonvoc"):
            for seed in seeds:
                for i, name in enumerate(COCO_CLASSES, start=1):
                    novel = (name in VOC_CLASSES) != (split == "voc")
                    row = dict(run=f"{method}-R50-{split}", method=method, backbone="R50")
                    row |= dict(supervised=split, schedule="130k", seed=seed, category_id=i)
                    row |= dict(category=name, instances=5)
                    row["supervision"] = "novel" if novel else "supervised"
                    for task, value in (("segm", ap(method, name, novel, seed)), ("bbox", 99.0)):
                        rows.append(row | {"task": task} | dict.fromkeys(METRICS, value))
    return pd.DataFrame(rows)


def noisy(method, name, novel, seed):
    """Falls with overlap where novel, for the baseline most, in every reading's noise."""
    index = COCO_CLASSES.index(name)
    rng = np.random.default_rng([index, seed, method == "opmask", novel])
    iou = OVERLAP["other_class"][index]
    slope = {("maskrcnn", True): -120, ("opmask", True): -20}.get((method, novel), 0)
    return max(0.0, 40 + slope * iou + 6 * rng.standard_normal())


OVERLAP = make_overlap()
PER_CLASS = make_per_class(noisy)
POINTS = class_points(PER_CLASS, OVERLAP, "other_class")
TABLE = regress(POINTS, resamples=4000).set_index(["model", "quantity"])
X, A, B = (POINTS[name].to_numpy() for name in ("iou", "maskrcnn", "opmask"))
Y = {"maskrcnn": A, "opmask": B, "difference": B - A}


def numbers(row, *names):
    return [row[name] for name in names or ("value", "low", "high", "p")]


@pytest.mark.parametrize("model", Y)
def test_line_is_that_of_scipy(model):
    fit = stats.linregress(X, Y[model])
    t = stats.t.ppf(0.975, len(X) - 2)
    for quantity, value, error in (
        ("slope", fit.slope, fit.stderr),
        ("intercept", fit.intercept, fit.intercept_stderr),
    ):
        row = TABLE.loc[model, quantity]
        expected = [value, value - t * error, value + t * error]
        assert numbers(row, "value", "low", "high") == pytest.approx(expected)
    assert TABLE.loc[model, "slope"]["p"] == pytest.approx(fit.pvalue)
    r = TABLE.loc[model, "r"]
    assert numbers(r, "value", "p") == pytest.approx([fit.rvalue, fit.pvalue])
    fisher = np.tanh(np.arctanh(fit.rvalue) + np.array([-1, 1]) * stats.norm.ppf(0.975) / 77**0.5)
    assert numbers(r, "low", "high") == pytest.approx(fisher)
    ranks = stats.linregress(stats.rankdata(X), stats.rankdata(Y[model]))
    spearman = TABLE.loc[model, "spearman"]
    assert numbers(spearman, "value", "p") == pytest.approx([ranks.rvalue, ranks.pvalue])
    assert r["n"] == 80


def test_paired_slope_is_the_difference_of_slopes_and_narrower_than_the_unpaired():
    slopes = [stats.linregress(X, y).slope for y in (A, B)]
    paired, stacked = TABLE.loc["difference", "slope"], TABLE.loc["difference", "interaction"]
    clustered = TABLE.loc["difference", "interaction_clustered"]
    for row in (paired, stacked, clustered, TABLE.loc["difference", "slope_bootstrap"]):
        assert row["value"] == pytest.approx(slopes[1] - slopes[0])
    # two independent regressions with one pooled variance
    residuals = np.concatenate(
        [y - stats.linregress(X, y).intercept - b * X for y, b in zip((A, B), slopes, strict=True)]
    )
    error = math.sqrt(residuals @ residuals / 156 * 2 / ((X - X.mean()) ** 2).sum())
    p = 2 * stats.t.sf(abs(stacked["value"]) / error, 156)
    assert stacked["p"] == pytest.approx(p)


def test_clustered_error_is_the_sandwich():
    design = np.column_stack([np.ones(80), X])
    bread = np.kron(np.eye(2), np.linalg.inv(design.T @ design))
    residuals = [y - fit_line(X, y).fittedvalues for y in (A, B)]
    scores = np.hstack([design * one[:, None] for one in residuals])  # a row a class
    covariance = bread @ scores.T @ scores @ bread * (80 / 79) * (159 / 156)
    contrast = np.array([0, -1, 0, 1])
    z = TABLE.loc["difference", "interaction_clustered"]["value"] / math.sqrt(
        contrast @ covariance @ contrast
    )
    found = TABLE.loc["difference", "interaction_clustered"]["p"]
    assert found == pytest.approx(2 * stats.norm.sf(abs(z)))


@pytest.mark.parametrize("model", Y)
def test_influence_by_leaving_out(model):
    y, n = Y[model], len(X)
    full = stats.linregress(X, y)
    fitted = full.intercept + full.slope * X
    variance = ((y - fitted) ** 2).sum() / (n - 2)
    spread = ((X - X.mean()) ** 2).sum()
    p, cook, dfbetas = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        kept = np.arange(n) != i
        fit = stats.linregress(X[kept], y[kept])
        left = y[kept] - fit.intercept - fit.slope * X[kept]
        p[i] = fit.pvalue
        cook[i] = ((fitted - fit.intercept - fit.slope * X) ** 2).sum() / (2 * variance)
        dfbetas[i] = (full.slope - fit.slope) / math.sqrt(left @ left / (n - 3) / spread)
    names = POINTS["category"].to_numpy()
    row = TABLE.loc[model, "p_without_one"]
    assert numbers(row, "value", "low", "high") == pytest.approx([full.pvalue, p.min(), p.max()])
    assert row["category"] == names[np.abs(p - full.pvalue).argmax()]
    for quantity, values in (("cooks_distance", cook), ("dfbetas", dfbetas)):
        most = np.abs(values).argmax()
        row = TABLE.loc[model, quantity]
        assert row["value"] == pytest.approx(values[most]) and row["category"] == names[most]


def test_bootstrap_agrees_with_scipy():
    def slope(x, y, axis=-1):
        x = x - x.mean(axis=axis, keepdims=True)
        return (x * y).sum(axis=axis) / (x * x).sum(axis=axis)

    def gap(x, a, b, axis=-1):
        return slope(x, b, axis) - slope(x, a, axis)

    options = dict(paired=True, vectorized=True, n_resamples=9999, method="percentile", rng=1)
    for model, data, statistic in (
        ("maskrcnn", (X, A), slope),
        ("difference", (X, A, B), gap),
    ):
        low, high = stats.bootstrap(data, statistic, **options).confidence_interval
        row = TABLE.loc[model, "slope_bootstrap"]
        tolerance = 0.06 * (high - low)
        assert row["low"] == pytest.approx(low, abs=tolerance)
        assert row["high"] == pytest.approx(high, abs=tolerance)


def test_bootstrap_pairs_the_models():
    shifted = POINTS.assign(opmask=POINTS["maskrcnn"] + 10)
    row = regress(shifted, resamples=50).set_index(["model", "quantity"]).loc["difference"]
    for quantity in ("slope_bootstrap", "r_bootstrap"):
        assert numbers(row.loc[quantity], "value", "low", "high") == pytest.approx([0, 0, 0])


def test_williams_published_example():
    t, p = williams(0.4, 0.5, 0.1, 103)  # help page of r.test in R's psych
    assert (round(t, 2), round(p, 2)) == (-0.89, 0.37)


def test_williams_holds_its_level_and_finds_a_difference():
    def rejected(cov):
        rng = np.random.default_rng(0)
        count = 0
        for sample in rng.multivariate_normal(np.zeros(3), cov, size=(1500, 80)):
            r = np.corrcoef(sample.T)
            count += williams(r[0, 1], r[0, 2], r[1, 2], 80)[1] < 0.05
        return count / 1500

    assert 0.035 < rejected([[1, -0.3, -0.3], [-0.3, 1, 0.7], [-0.3, 0.7, 1]]) < 0.065
    assert rejected([[1, -0.6, -0.1], [-0.6, 1, 0.7], [-0.1, 0.7, 1]]) > 0.95


@given(st.integers(0, 10_000), st.integers(5, 90))
def test_implied_r_inverts_the_p_value(seed, n):
    x, y = np.random.default_rng(seed).standard_normal((2, n))
    r, p = stats.pearsonr(x, y)
    assert implied_r(p, n) == pytest.approx(abs(r), abs=1e-6)


def test_paper_numbers():
    published = paper.load("figure3")
    p = published[published["quantity"] == "p"].set_index("model")["value"]
    assert p.to_dict() == {"maskrcnn": 0.003, "opmask": 0.189}
    r = [-implied_r(value, 80) for value in p]
    assert [round(value, 3) for value in r] == [-0.328, -0.148]
    assert williams(*r, 0.6, 80)[1] > 0.05 > williams(*r, 0.7, 80)[1]


def test_paper_classes_have_the_relative_improvement_of_its_numbers():
    published = paper.load("figure3").dropna(subset="category")
    ap = published.set_index(["model", "category"])["value"].to_dict()
    per_class = make_per_class(lambda method, name, novel, seed: ap.get((method, name), 50.0))
    points = class_points(per_class, OVERLAP, "other_class").set_index("category")
    assert points.loc["person", "relative"] == pytest.approx((22.72 - 0.99) / 1)  # below the floor
    assert points.loc["cat", "relative"] == pytest.approx((60.63 - 3.77) / 3.77)
    assert largest_relative(points.reset_index())["category"].tolist() == ["person", "cat"]


def test_points_join_the_directions_and_average_seeds():
    def ap(method, name, novel, seed):
        return (10 if novel else 30) + 2 * seed + (5 if method == "opmask" else 0)

    extra = make_per_class(lambda *_: 77.0).assign(backbone="R101")
    per_class = pd.concat([make_per_class(ap, seeds=(0, 1, 2)), extra])
    points = class_points(per_class, OVERLAP, "max")
    assert points["iou"].tolist() == OVERLAP["max"].tolist()
    assert points[["maskrcnn", "opmask"]].drop_duplicates().values.tolist() == [[12, 17]]
    assert (points["maskrcnn_supervised"] == 32).all() and (points["opmask_novelty"] == -20).all()
    assert (points["seeds"] == 3).all() and (points["maskrcnn_sd"] == 2).all()
    voc = points["category"].isin(VOC_CLASSES)
    assert (points["supervised"] == np.where(voc, "nonvoc", "voc")).all()


def test_classes_without_ground_truth_or_overlap_are_left_out():
    per_class = PER_CLASS.copy()
    per_class.loc[per_class["category"] == "toaster", METRICS] = NAN
    overlap = OVERLAP.copy()
    overlap.loc[overlap["category"] == "hair drier", "other_class"] = NAN
    table = regress(class_points(per_class, overlap, "other_class"), resamples=10)
    assert (table["n"] == 78).all()


def test_half_a_model_is_not_the_regression():
    half = PER_CLASS.query("method == 'opmask' or supervised == 'voc'")
    points = class_points(half, OVERLAP, "other_class")
    assert points["maskrcnn"].isna().all() and points["opmask"].notna().all()
    table = regress(points, resamples=10).set_index(["model", "quantity"])
    assert (table.loc["maskrcnn"]["n"] == 0).all() and table.loc["maskrcnn"]["p"].isna().all()
    opmask = table.loc["opmask", "slope"]
    assert numbers(opmask) == pytest.approx(numbers(TABLE.loc["opmask", "slope"]))
    text = view.finding(table.reset_index())
    assert text.startswith("Our Mask R-CNN: not run. OPMask's AP") and "cannot be" in text


def page_of(per_class, overlap=OVERLAP):
    points = class_points(per_class, overlap, "other_class")
    table, readings = regress(points, resamples=10), regress_readings(per_class, overlap)
    figure3(points, table, "other_class")  # may not fail either
    return markdown(
        view.blocks(table, readings, points, overlap, reading="other_class", scale="miniature")
    )


@pytest.mark.slow
def test_page_tells_what_is_found():
    text = page_of(PER_CLASS)
    head = text.split("![")[0]
    assert "Our Mask R-CNN's AP of novel classes falls with class overlap" in head
    assert "p < .001, significant at 0.01; paper: p = .003" in head
    assert "not significant at 0.01; paper: p = .189" in head
    assert "The two slopes differ: OPMask's is " in head and "AP per 0.1 IoU above" in head
    assert "correlate above 0.65" in text and "is not itself a test" in text
    assert "which agrees with that explanation" in text  # supervised AP does not fall with overlap
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_significant_against_not_significant_is_no_difference():
    """The paper's situation: p below .01 and above .05, but the slopes are not shown to differ."""
    rng = np.random.default_rng(1)
    x = OVERLAP["other_class"].to_numpy()
    line, a, b = -(x - x.mean()) / x.std(), *rng.standard_normal((2, 80))
    for noise in (a, b):  # exactly uncorrelated with the line
        noise -= np.polyval(np.polyfit(x, noise, 1), x)
    aps = {"maskrcnn": 40 + line + 2.7 * a, "opmask": 40 + 0.7 * line + 5 * b}

    def ap(method, name, novel, seed):
        index = COCO_CLASSES.index(name)
        return aps[method][index] + (not novel) * b[index]

    text = page_of(make_per_class(ap))
    head = text.split("![")[0]
    assert ", significant at 0.01" in head and "not significant at 0.01" in head
    assert "The two slopes are not shown to differ" in head
    assert "no evidence for that explanation" in text  # supervised APs fall just as much


@pytest.mark.parametrize(
    "per_class",
    [
        PER_CLASS.iloc[:0],
        make_per_class(lambda *_: 0.0),
        make_per_class(lambda method, name, novel, seed: float(name == "cat")),
        make_per_class(lambda *_: NAN),
    ],
    ids=["no run", "nothing learnt", "one class learnt", "no ground truth"],
)
def test_page_of_what_cannot_be_regressed(per_class):
    text = page_of(per_class)
    assert not re.search(r"\b(nan|inf|None)\b", text, re.IGNORECASE)
    assert len(page_of(per_class, make_overlap(["one", "other"]))) > 1000


def test_labels_stand_apart_inside_the_panel():
    rng = np.random.default_rng(0)
    points = POINTS.assign(iou=0.1 + 0.1 * rng.random(80) ** 4, maskrcnn=rng.random(80) ** 4 * 9)
    points["opmask"] = points["maskrcnn"] + rng.random(80) * 9
    points["difference"] = points["opmask"] - points["maskrcnn"]
    points["relative"] = points["difference"] / points["maskrcnn"].clip(lower=1)
    figure = figure3(points, regress(points, resamples=2), "other_class")
    figure.draw_without_rendering()
    for axis in figure.axes:
        labels = [text for text in axis.texts if isinstance(text, Annotation)]
        assert {one.get_text() for one in labels} == set(largest_relative(points)["category"])
        boxes = [Text.get_window_extent(text) for text in axis.texts]
        for i, box in enumerate(boxes):
            assert axis.bbox.contains(*box.min) and axis.bbox.contains(*box.max)
            assert not any(box.overlaps(other) for other in boxes[:i])


def test_panels_show_fit_band_and_p():
    figure = figure3(POINTS, TABLE.reset_index(), "other_class")
    for axis, model in zip(figure.axes, ("maskrcnn", "opmask"), strict=True):
        row = TABLE.loc[model, "r"]
        p = "p < .001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
        assert p in axis.texts[0].get_text()
        fit = stats.linregress(X, Y[model])
        x, y = axis.lines[0].get_data()
        assert y == pytest.approx(fit.intercept + fit.slope * x)
        # the band, where it is narrowest: ± t·s/√n at the mean
        t = stats.t.ppf(0.975, 78)
        s = np.std(Y[model] - fit.intercept - fit.slope * X) * math.sqrt(80 / 78)
        corners = axis.collections[1].get_paths()[0].vertices
        upper = max(corners[np.isclose(corners[:, 0], x[np.abs(x - X.mean()).argmin()])][:, 1])
        middle = fit.intercept + fit.slope * x[np.abs(x - X.mean()).argmin()]
        assert upper - middle == pytest.approx(t * s / math.sqrt(80), rel=0.01)


@pytest.fixture
def project(tmp_path, monkeypatch):
    params = load_params()
    names = [f"{m}-R50-{s}" for m in ("maskrcnn", "opmask") for s in ("voc", "nonvoc")]
    params |= {"runs": names, "seeds": [0], "overlap": {"reading": "max"}, "scale": "miniature"}
    params["bootstrap"] = {"resamples": 20, "seed": 0}
    write_params(params, tmp_path)
    folder = tmp_path / "runs" / "miniature"
    for one in all_runs(params):
        (folder / "evaluate" / one.key).mkdir(parents=True)
        rows = PER_CLASS[PER_CLASS["run"] == one.name]
        rows.to_csv(folder / "evaluate" / one.key / "per_class.csv", index=False)
    OVERLAP.to_csv(folder / "overlap.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports" / "miniature"


@pytest.mark.slow
def test_stage_writes_every_file_and_the_same_twice(project):
    run([])
    names = ["tables/regression.csv", "tables/regression_readings.csv", "tables/regression.md"]
    names += [f"figures/figure3.{kind}" for kind in ("png", "svg", "csv")]
    first = {name: (project / name).read_bytes() for name in names}
    run([])
    assert {name: (project / name).read_bytes() for name in names} == first
    table = pd.read_csv(project / "tables" / "regression.csv")
    columns = ["model", "quantity", "value", "low", "high", "p", "n", "category"]
    assert list(table.columns) == columns
    expected = stats.linregress(OVERLAP["max"], A)
    slope = table.set_index(["model", "quantity"]).loc[("maskrcnn", "slope")]
    assert numbers(slope, "value", "p") == pytest.approx(
        [expected.slope, expected.pvalue], rel=1e-5
    )
    readings = pd.read_csv(project / "tables" / "regression_readings.csv")
    assert readings.groupby("reading").size().to_dict() == dict.fromkeys(READINGS, 12)
    chosen = readings.query("reading == 'max' and model == 'maskrcnn' and quantity == 'slope'")
    assert numbers(chosen.iloc[0]) == pytest.approx(numbers(slope))
    points = pd.read_csv(project / "figures" / "figure3.csv")
    assert len(points) == 80 and points["labelled"].sum() == 8
