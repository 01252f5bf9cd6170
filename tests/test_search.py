"""The schedule search: held-out ground truth against pycocotools, choices against naive loops,
and the stage on a small project whose detector is a script."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from coco_reference import make_ground_truth, metrics_of, pycocotools_eval, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st
from parameters import write_params
from resampled import difference, interval
from test_bootstrap import simulate

from opmask.data.cleaning import clean
from opmask.errors import UserError
from pipeline import schedule_search as report_stage
from pipeline import search as stage
from study.analysis.held_out import CURVE, FILE, class_groups, matches_path, read_curves, restrict
from study.analysis.search import nearest, pick, search_table, verdict
from study.figures.search import draw, figure_data
from study.report.markdown import markdown
from study.report.views import schedule_search as view
from study.spec.params import load_params
from study.spec.run import Run

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}
FACTOR, BOOTSTRAP = 0.001, {"resamples": 100, "seed": 0}
BOX, OTHER = [0.0, 0.0, 50.0, 60.0], [100.0, 100.0, 50.0, 60.0]


def shot(image, box, score, category=1):
    about = {"image_id": image, "category_id": category, "score": score}
    return about | {"bbox": box, "segmentation": rectangle(box)}


def measured(tmp_path, dataset, detections, image_ids, groups=None):
    truth = {task: tmp_path / f"{task}.json" for task in ("segm", "bbox")}
    for task, path in truth.items():
        path.write_text(json.dumps(restrict(dataset, image_ids, task)))
    rows, matches = stage.measure(truth, detections, groups or {"all": [1]}, **BOOTSTRAP)
    return rows.set_index(["classes", "task", "metric"]), matches


def test_held_out_ap_is_that_of_these_images_alone(tmp_path):
    objects = [(i, c, box, 0) for i in (1, 2, 3) for c in (1, 3) for box in (BOX, OTHER)]
    dataset = make_ground_truth([1, 2, 3], objects)
    found = [shot(1, BOX, 0.9), shot(3, BOX, 0.8), shot(3, [60.0, 0.0, 20.0, 20.0], 0.85),
             shot(3, OTHER, 0.4, 3)]  # fmt: skip
    groups = {"novel": [1], "supervised": [3], "all": [1, 3]}
    rows, matches = measured(tmp_path, dataset, found, [1, 3], groups)
    alone = make_ground_truth([1, 3], [o for o in objects if o[0] != 2])
    for (classes, task), ids in {
        (c, t): i for c, i in groups.items() for t in ("segm", "bbox")
    }.items():
        reference = pycocotools_eval(alone, found, task, ids)
        ap, ap50 = metrics_of(reference.eval["precision"][..., -1])[:2]
        assert rows.loc[(classes, task, "AP"), "value"] == pytest.approx(ap)
        assert rows.loc[(classes, task, "AP50"), "value"] == pytest.approx(ap50)
    assert matches.image_ids.tolist() == [1, 3]
    assert rows["low"].notna().sum() == 3  # mask AP of each group


def test_an_object_without_mask_is_neither_truth_nor_error(tmp_path):
    dataset = make_ground_truth([1, 2], [(1, 1, BOX, 0), (1, 1, OTHER, 0), (2, 1, BOX, 0)])
    del dataset["annotations"][1]["segmentation"], dataset["annotations"][1]["area"]
    found = [shot(1, OTHER, 0.95), shot(1, BOX, 0.9), shot(2, BOX, 0.8)]
    before = json.dumps(dataset)
    rows, _ = measured(tmp_path, dataset, found, [1, 2])
    assert rows.loc[("all", "segm", "AP"), "value"] == pytest.approx(100)
    assert rows.loc[("all", "bbox", "AP"), "value"] == pytest.approx(100)
    rows, _ = measured(tmp_path, dataset, found[1:], [1, 2])
    assert rows.loc[("all", "segm", "AP"), "value"] == pytest.approx(100)  # not missed either
    assert rows.loc[("all", "bbox", "AP"), "value"] < 70  # as a box it is
    assert json.dumps(dataset) == before
    # elsewhere a wrong detection stays an error: precision 1/2 to recall 1/2, then 2/3
    wrong = [shot(1, [0.0, 150.0, 20.0, 20.0], 0.99), *found[1:]]
    rows, _ = measured(tmp_path, dataset, wrong, [1, 2])
    assert rows.loc[("all", "segm", "AP"), "value"] == pytest.approx(200 / 3)


def test_degenerate_polygons_are_no_mask(tmp_path):
    dataset = make_ground_truth([1], [(1, 1, BOX, 0)])
    dataset["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    dataset = clean(dataset)
    (annotation,) = restrict(dataset, [1], "segm")["annotations"]
    assert annotation["iscrowd"] == 1 and len(annotation["segmentation"][0]) == 8
    rows, _ = measured(tmp_path, dataset, [shot(1, BOX, 0.9)], [1])
    assert math.isnan(rows.loc[("all", "segm", "AP"), "value"])


def test_unknown_held_out_images_are_refused():
    with pytest.raises(UserError, match="3 images, 2 of them"):
        restrict(make_ground_truth([1, 2], []), [1, 2, 9], "segm")


CURVES = st.dictionaries(st.integers(1, 9), st.integers(0, 4), min_size=1)


@given(st.lists(CURVES, min_size=1, max_size=3))
@settings(deadline=None)
def test_pick_is_the_earliest_of_the_best_means(curves):
    best = None
    for iteration in sorted(set.intersection(*(set(c) for c in curves))):
        mean = sum(c[iteration] for c in curves) / len(curves)
        if best is None or mean > best[1] + 1e-9:
            best = iteration, mean
    found = pick([pd.Series(c, dtype=float) for c in curves])
    assert found == (best[0] if best else None)


def test_nearest_takes_the_later_of_two():
    curve = pd.Series([1.0, 2, 3], index=[100, 120, 140])
    assert [nearest(curve, i) for i in (130, 129, 900)] == [140, 120, 140]


def ends(low, high, iteration=130, last=180):
    return {"low": low, "high": high, "iteration": iteration, "last": last}


@pytest.mark.parametrize(
    ("novel", "supervised", "expected"),
    [
        (ends(0.1, 2), ends(-3, -1), "overfits"),
        (ends(0.1, 2), ends(-1, 1), "overfits"),
        (ends(0.1, 2), ends(0.1, 1), "falls for both"),
        (ends(-2, -0.1), ends(0.1, 1), "rises"),
        (ends(-2, 0.1), ends(0.1, 1), "undecided"),
        (ends(0, 0, 180), ends(0, 0, 180), "same snapshot"),
        (ends(math.nan, math.nan), ends(0, 1), "nothing to measure"),
    ],
)
def test_verdict(novel, supervised, expected):
    assert verdict(novel, supervised) == expected


GROUPS = {"voc": {"novel": list(range(4, 12)), "supervised": list(range(4))}}
GROUPS["nonvoc"] = {"novel": GROUPS["voc"]["supervised"], "supervised": GROUPS["voc"]["novel"]}
SHARES = {"voc": (0.6, 0.95, 0.9, 0.7), "nonvoc": (0.6, 0.7, 0.95, 0.5)}


def made_runs(folder, splits=("voc", "nonvoc"), seeds=(0,)):
    """Search runs with snapshots at 60, 120, 130, 180; better detectors in the middle."""
    runs, kept = [], {}
    for supervised in splits:
        for seed in seeds:
            run = Run(
                f"opmask-R50-{supervised}-search", "opmask", "R50", supervised, "search", seed
            )
            (folder / run.key).mkdir()
            rows = []
            found = simulate(np.random.default_rng(7), found=SHARES[supervised])
            for iteration, matches in zip((60, 120, 130, 180), found, strict=True):
                matches.save(matches_path(folder / run.key, iteration))
                kept[supervised, iteration] = matches
                for classes, ids in GROUPS[supervised].items():
                    value = interval([matches], ids, **BOOTSTRAP).value
                    value += seed * 1e-3
                    rows.append((iteration, classes, "segm", "AP", value, value - 1, value + 1))
            frame = pd.DataFrame(rows, columns=CURVE)
            frame.to_csv(folder / run.key / FILE, index=False)
            runs.append(run)
    return runs, kept


def test_table_of_choices(tmp_path):
    runs, kept = made_runs(tmp_path)
    curves = read_curves(tmp_path, runs)
    table = search_table(tmp_path, curves, GROUPS, FACTOR, **BOOTSTRAP)
    rows = table.set_index(["supervised", "choice", "classes"])
    assert rows.loc[("voc", "best", "novel"), "iteration"] == 120
    assert rows.loc[("nonvoc", "best", "novel"), "iteration"] == 130
    novel = curves.query("classes == 'novel'").groupby("iteration")["value"].mean()
    assert (rows.xs("compromise", level="choice")["iteration"] == novel.idxmax()).all()
    for split, groups in GROUPS.items():
        for classes, ids in groups.items():
            row = rows.loc[(split, "paper", classes)]
            pair = [kept[split, 130]], [kept[split, 180]]
            expected = difference(*pair, ids, **BOOTSTRAP)
            assert (row["iteration"], row["thousands"], row["last_thousands"]) == (130, 130, 180)
            found = row[["ap", "ap_last", "drop", "low", "high"]].tolist()
            aps = [interval(one, ids, **BOOTSTRAP).value for one in pair]
            drop = expected.value, expected.low, expected.high
            np.testing.assert_allclose(found, [*aps, *drop])
    assert rows.loc[("voc", "best", "novel"), "verdict"] == "falls for both"
    text = markdown(view.blocks(table))
    assert "voc → non-voc: novel classes are best at 120k of 180k" in text
    assert "not run" not in text


def test_seeds_are_averaged_and_one_split_is_no_compromise(tmp_path):
    runs, kept = made_runs(tmp_path, splits=("voc",), seeds=(0, 1))
    curves = read_curves(tmp_path, runs)
    table = search_table(tmp_path, curves, GROUPS, FACTOR, **BOOTSTRAP)
    rows = table.set_index(["supervised", "choice", "classes"])
    assert rows.loc[("voc", "best", "novel"), "seeds"] == 2
    assert rows.loc[("voc", "compromise", "novel"), "verdict"] == "nothing to measure"
    assert (rows.loc["nonvoc", "verdict"] == "not run").all()
    assert markdown(view.blocks(table)).count("not run") == 12
    figure = draw(figure_data(curves, table, FACTOR), PARAMS["schedules"], FACTOR)
    assert [t.get_text() for axes in figure.axes for t in axes.texts] == ["not run"]


def test_figure_data(tmp_path):
    curves = read_curves(tmp_path, made_runs(tmp_path)[0])
    table = search_table(tmp_path, curves, GROUPS, FACTOR, **BOOTSTRAP)
    data = figure_data(curves, table, FACTOR)
    picked = data[data["picked"]].groupby("supervised")["iteration"].unique()
    assert {k: v.tolist() for k, v in picked.items()} == {"voc": [120], "nonvoc": [130]}
    assert (data["thousands"] == data["iteration"]).all()
    panels = draw(data, PARAMS["schedules"], FACTOR).axes
    steps = [line for axes in panels for line in axes.lines if line.get_label() == "LR ÷ 10"]
    assert [line.get_xdata()[0] for line in steps] == [120, 120]


def test_nothing_was_run(tmp_path):
    curves = read_curves(tmp_path, [])
    table = search_table(tmp_path, curves, {}, FACTOR, **BOOTSTRAP)
    assert len(table) == 12 and (table["verdict"] == "not run").all()
    assert markdown(view.blocks(table)).startswith("The schedule search was not run.")
    data = figure_data(curves, table, FACTOR)
    texts = [
        t.get_text() for axes in draw(data, PARAMS["schedules"], FACTOR).axes for t in axes.texts
    ]
    assert texts == ["not run"] * 2 and data.empty


KEY = "opmask-R50-mine-search-0"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three images, two held out; `class 1` is supervised; two snapshots, the second worse."""
    params = PARAMS | {"bootstrap": BOOTSTRAP, "splits": {"mine": ["class 1"]}, "scale": "coco"}
    params["runs"] = ["opmask-R50-mine-search", "opmask-R50-mine"]
    params["hardware"] = PARAMS["hardware"] | {"side_by_side": 1}  # in this process
    write_params(params, tmp_path)
    objects = [(i, c, box, 0) for i in (1, 2, 3) for c in (1, 3) for box in (BOX, OTHER)]
    truth = make_ground_truth([1, 2, 3], objects)
    data, root = tmp_path / "data" / "coco", tmp_path / "runs" / "coco"
    data.mkdir(parents=True)
    (data / "t.json").write_text(json.dumps(truth))
    part = {"annotations": "t.json", "images": ".", "counts": {}}
    content = {"kind": "coco", "root": ".", "categories": truth["categories"]}
    (data / "manifest.json").write_text(json.dumps(content | {"train": part, "val": part}))
    for key in (KEY, "opmask-R50-mine-0"):
        (root / "train" / key / "snapshots").mkdir(parents=True)
        (root / "train" / key / "held_out.json").write_text("[1, 3]" if key == KEY else "[]")
    for done in (180000, 120000):
        (root / "train" / KEY / "snapshots" / f"model_{done:07d}.pth").touch()

    (root / "train" / KEY / "config.yaml").write_text("")

    def detector(trained, manifest, params):
        assert stage.held_out(trained) == [1, 3]
        boxes = {"model_0120000": (BOX, OTHER), "model_0180000": (BOX,)}
        return lambda weights: [
            shot(i, box, 0.9 - i / 100, c)
            for i in (1, 3)
            for c in (1, 3)
            for box in boxes[weights.stem]
        ]

    monkeypatch.setattr(stage, "detector", detector)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stage(project):
    stage.run([])
    found = project / "runs" / "coco" / "search"
    assert list(json.loads((found / "runs.json").read_text())) == [
        KEY
    ]  # the other has no snapshots
    curve = pd.read_csv(found / KEY / FILE)
    assert curve.columns.tolist() == CURVE and curve["iteration"].unique().tolist() == [
        120000,
        180000,
    ]
    novel = curve.query("classes == 'novel' and task == 'segm' and metric == 'AP'")["value"]
    assert novel.tolist() == pytest.approx([100, 100 * 51 / 101], abs=1e-3)
    report_stage.run([])
    table = pd.read_csv(project / "reports/coco/tables/schedule_search.csv")
    mine = table.query("supervised == 'mine' and classes == 'novel' and choice == 'best'").iloc[0]
    assert (mine["iteration"], mine["last"]) == (120000, 180000)
    assert mine["drop"] == pytest.approx(100 - 100 * 51 / 101, abs=1e-3)
    for kind in ("svg", "png", "csv"):
        assert (project / f"reports/coco/figures/schedule_search.{kind}").stat().st_size > 500
    assert (project / "reports/coco/tables/schedule_search.md").read_text().startswith("# Sched")


def test_stage_without_held_out_images(project, capsys):
    (project / "runs" / "coco" / "train" / KEY / "held_out.json").write_text("[]")
    with pytest.raises(UserError, match="names no held-out image"):
        stage.held_out(project / "runs" / "coco" / "train" / KEY)


@pytest.mark.slow
def test_a_real_snapshot_is_run_on_the_held_out_images_alone(tmp_path):
    import torch
    from detectron2.modeling import build_model
    from tiny import CLASSES, IDS, tiny_cfg, write_images

    from opmask.data.coco import ImageSet, Manifest

    cfg, data = tiny_cfg(), write_images(tmp_path / "images")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "held_out.json").write_text("[2, 5]")
    weights = tmp_path / "snapshots" / "model_0000004.pth"
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    images = ImageSet(data.annotations, data.images, {})
    categories = [{"id": i, "name": n} for i, n in zip(IDS, CLASSES, strict=True)]
    manifest = Manifest("coco", categories, images, images)
    on_cpu = PARAMS | {"hardware": PARAMS["hardware"] | {"gpus": 0}}
    detect = stage.detector(tmp_path, manifest, on_cpu)
    assert stage.snapshots(tmp_path) == {4: weights}
    groups = {"all": list(IDS)}
    stage.measure_all(tmp_path, manifest, groups, on_cpu | {"bootstrap": BOOTSTRAP}, tmp_path)
    curve = pd.read_csv(tmp_path / FILE)
    assert {d["image_id"] for d in detect(weights)} <= {2, 5}
    assert curve["iteration"].unique().tolist() == [4] and curve["value"].notna().all()
    assert matches_path(tmp_path, 4).is_file()


def test_class_groups():
    categories = [{"id": 5, "name": "a"}, {"id": 2, "name": "b"}]
    assert class_groups("all", categories, {}) == {"supervised": [5, 2], "all": [5, 2]}
    found = class_groups("mine", categories, {"mine": ["b"]})
    assert found == {"novel": [5], "supervised": [2], "all": [5, 2]}
