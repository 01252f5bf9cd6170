"""Masks in true boxes: the model against detectron2's own path, the statistics against loops."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from parameters import PARAMS, write_params
from pycocotools import mask as mask_util
from test_bootstrap import simulate
from test_contrasts import BOOTSTRAP, CLASSES, NOVEL, write_run
from test_mask_overlap import rle
from tiny import IDS, tiny_cfg, write_images

from opmask.evaluation.bootstrap import image_weights
from opmask.evaluation.coco_ap import evaluate, subset_summary
from opmask.evaluation.inference import TestImages
from opmask.evaluation.oracle import corners, measure_in_true_boxes, segment
from pipeline import oracle as stage
from pipeline.evaluate import write_oracle
from study.analysis.contrasts import Contrast, contrast_table
from study.analysis.oracle import THRESHOLDS, Oracle, as_matches
from study.analysis.resampling import Resampler
from study.spec.paths import floors
from study.spec.results import read_per_class, summarise
from study.tables.oracle import oracle_parts, oracle_table
from study.tables.table1 import table1, with_oracle

BASELINE = {"MODEL__OPMASK__PRIOR": False, "MODEL__ROI_MASK_HEAD__NUM_CONV": 4}


@torch.no_grad()
def tiny_model(cfg, image):
    """Random weights that give masks and classes which depend on the box."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight)
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight)
    for part in (model.backbone, model.roi_heads.box_head):
        for layer in part.modules():
            layer.momentum = 1.0
        part.train()
    model([image])  # fits the batch norms' statistics
    return model.eval()


@pytest.fixture(scope="module", params=["opmask", "maskrcnn"])
def made(request, tmp_path_factory):
    """method, model, cfg, data, folder."""
    folder = tmp_path_factory.mktemp(request.param)
    write_images(folder, count=3)
    data = json.loads((folder / "instances.json").read_text())
    # of one size: in a batch no image is padded, so that one alone gives the same
    data["images"] = [one for one in data["images"] if one["id"] % 2]
    data["annotations"] = [one for one in data["annotations"] if one["image_id"] % 2]
    changes = BASELINE if request.param == "maskrcnn" else {}
    cfg = tiny_cfg(TEST__IMS_PER_BATCH=2, INPUT__MIN_SIZE_TEST=96, **changes)
    model = tiny_model(cfg, TestImages(cfg, folder)(data["images"][0]))
    return request.param, model, cfg, data, folder


@torch.no_grad()
def alone(model, image, annotation, category):
    """The mask of one object in its box by detectron2's own functions, as RLE."""
    x, y, w, h = annotation["bbox"]
    height, width = image["image"].shape[1:]
    boxes = Boxes(torch.tensor([[x, y, x + w, y + h]]))
    boxes.scale(width / image["width"], height / image["height"])
    given = Instances((height, width), pred_boxes=boxes, pred_classes=torch.tensor([category]))
    (found,) = model.inference([image], [given], do_postprocess=False)
    found = detector_postprocess(found, image["height"], image["width"])
    return rle(found.pred_masks[0].numpy())


@torch.no_grad()
def probabilities(model, image, annotation):
    """Of the classes in an object's box, by hand from the features."""
    x, y, w, h = annotation["bbox"]
    heads, batch = model.roi_heads, model.preprocess_image([image])
    features = model.backbone(batch.tensor)
    boxes = Boxes(torch.tensor([[x, y, x + w, y + h]]))
    height, width = batch.image_sizes[0]
    boxes.scale(width / image["width"], height / image["height"])
    pooled = heads.box_pooler([features[f] for f in heads.box_in_features], [boxes])
    vector = heads.box_head(pooled).mean((2, 3))
    score = heads.box_predictor.cls_score
    return (vector @ score.weight.T + score.bias).softmax(1)[0, :-1]


def test_each_mask_is_of_its_own_box_and_class(made):
    _, model, cfg, data, folder = made
    table = measure_in_true_boxes(model, cfg, data, folder, IDS).set_index("annotation_id")
    mapper, images = TestImages(cfg, folder), {i["id"]: i for i in data["images"]}
    assert len(table) == len(data["annotations"]) == 8
    assert table["iou"].nunique() > 4
    for annotation in data["annotations"]:
        row, image = table.loc[annotation["id"]], mapper(images[annotation["image_id"]])
        size = image["height"], image["width"]
        true = mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], *size))
        expected = probabilities(model, image, annotation)
        predicted = int(expected.argmax())
        index = IDS.index(annotation["category_id"])
        assert row["score"] == pytest.approx(expected[index].item(), abs=1e-4)
        assert row["predicted_id"] == IDS[predicted]
        for column, category in (("iou", index), ("iou_predicted", predicted)):
            mask = alone(model, image, annotation, category)
            iou = mask_util.iou([mask], [true], [0]).item()
            assert row[column] == pytest.approx(iou, abs=0.02), column  # a pixel may tip over
        assert row["area"] == annotation["area"] and row["image_id"] == annotation["image_id"]


def test_another_class_changes_the_prior_and_not_the_baseline(made):
    method, model, cfg, data, folder = made
    image = TestImages(cfg, folder)(data["images"][0])
    own = [a for a in data["annotations"] if a["image_id"] == 1]
    classes = torch.tensor([IDS.index(a["category_id"]) for a in own])
    boxes = corners(own)
    (one,), _ = segment(model, [image], [boxes], [classes])
    (other,), _ = segment(model, [image], [boxes], [(classes + 1) % len(IDS)])
    assert boxes.equal(corners(own))
    changed = (one - other).abs().amax((1, 2))
    assert len(one) == 2 * len(own)
    assert (changed[: len(own)] > 1e-4).all() if method == "opmask" else not changed.any()
    assert not changed[len(own) :].any()  # of the predicted class either way


def write_objects(folder, seed, shift=0.0, drop=0):
    """What stage `evaluate` leaves in `folder`: objects of twelve classes in forty images."""
    rng = np.random.default_rng(1)
    count = 400
    table = pd.DataFrame({"image_id": np.sort(rng.integers(1, 41, count))})
    table["annotation_id"] = np.arange(count) + 7
    table["category_id"] = rng.choice(list(CLASSES), count)
    table["area"] = rng.choice([500.0, 5000.0, 20000.0], count)
    noise = np.random.default_rng(seed)
    table["score"] = noise.random(count)
    table["predicted_id"] = np.where(noise.random(count) < 0.5, table["category_id"], 99)
    iou = rng.random(count) * 0.8 + 0.1 * noise.random(count) + shift
    table["iou"] = iou.clip(0, 1).round(6)
    table["boundary_iou"], table["iou_predicted"] = table["iou"] / 2, table["iou"] / 4
    write_oracle(table.iloc[drop:], folder)
    return table


def write_floors(folder):
    parts = [
        write_objects(folder, 9, shift).assign(floor=name)
        for name, shift in (("box", -0.3), ("ellipse", 0.02), ("mean mask", -0.1))
    ]
    write_oracle(pd.concat(parts).drop(columns=["score", "predicted_id", "iou_predicted"]), folder)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """OPMask with seeds 0 and 1, the baseline with 1 and 2, Faster R-CNN; masks of `voc`."""
    folder = tmp_path_factory.mktemp("runs")
    (matches,) = simulate(np.random.default_rng(0), found=(0.9,))
    runs, tables = [], {}
    for name, seed, shift in (
        *(("opmask-R50-voc", seed, 0.1) for seed in (0, 1)),
        *(("maskrcnn-R50-voc", seed, 0.0) for seed in (1, 2)),
        ("fasterrcnn-R50-voc", 0, None),
    ):
        runs.append(write_run(folder, name, seed, matches))
        if shift is not None:
            out = folder / "evaluate" / f"{name}-{seed}"
            tables[name, seed] = write_objects(out, 10 * seed + len(name), shift)
    (folder / "evaluate" / floors("voc")).mkdir()
    write_floors(folder / "evaluate" / floors("voc"))
    return folder, runs, tables


def oracle_of(folder, runs):
    return Oracle(Resampler(folder / "evaluate", read_per_class(folder, runs), **BOOTSTRAP))


GAIN = Contrast("gain R50 voc", "", "opmask-R50-voc", "maskrcnn-R50-voc", "novel", claimed=True)


def naive_gain(tables):
    """Novel objects: mean over objects and seeds, and what resampled images would have given."""
    novel = tables["opmask-R50-voc", 0]["category_id"].isin(NOVEL)
    a, b = (
        sum(tables[name, seed]["iou"] for seed in seeds) / 2 * 100
        for name, seeds in (("opmask-R50-voc", (0, 1)), ("maskrcnn-R50-voc", (1, 2)))
    )
    rows = tables["opmask-R50-voc", 0].assign(gap=a - b)[novel]
    images = sorted(tables["opmask-R50-voc", 0]["image_id"].unique())
    draws = []
    for weights in image_weights(len(images), **BOOTSTRAP):
        drawn = np.repeat(images, weights.astype(int))
        gaps = [gap for image in drawn for gap in rows.loc[rows["image_id"] == image, "gap"]]
        draws.append(np.mean(gaps))
    return a[novel].mean(), b[novel].mean(), np.array(draws)


def test_a_contrast_has_a_row_of_iou_in_true_boxes(evaluated):
    folder, runs, tables = evaluated
    oracle = oracle_of(folder, runs)
    table = contrast_table(oracle.runs, [GAIN], oracle)
    assert table[["name", "task", "metric"]].to_numpy().tolist() == [
        ["gain R50 voc", "segm", "AP"],
        ["gain R50 voc", "oracle", "IoU"],
    ]
    row = table.iloc[1]
    a, b, draws = naive_gain(tables)
    assert (row["value_a"], row["value_b"]) == pytest.approx((a, b))
    assert row["difference"] == pytest.approx(a - b)
    low, high = a - b + np.quantile(draws - draws.mean(), [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["p"] == row["p_holm"] == pytest.approx(2 / (BOOTSTRAP["resamples"] + 1))
    assert row["tested"] == len(NOVEL) and row["seeds"] == 1 and np.isnan(row["sd"])
    assert row["class_low"] < row["difference"] < row["class_high"] and np.isnan(row["paper"])
    gap = (oracle.scores(GAIN.a) - oracle.scores(GAIN.b)).by_seed  # of the seed that both have
    one, other = (tables[name, 1]["iou"] for name in (GAIN.a, GAIN.b))
    assert gap.columns.tolist() == [1]
    np.testing.assert_allclose(gap[1], 100 * (one - other), atol=1e-9)
    assert len(contrast_table(oracle.runs, [GAIN])) == 1


def test_the_interval_over_classes_resamples_their_objects(evaluated):
    folder, runs, tables = evaluated
    row = contrast_table(oracle_of(folder, runs).runs, [GAIN], oracle_of(folder, runs)).iloc[1]
    gap = (
        tables["opmask-R50-voc", 0]["iou"] + tables["opmask-R50-voc", 1]["iou"]
        - tables["maskrcnn-R50-voc", 1]["iou"] - tables["maskrcnn-R50-voc", 2]["iou"]
    ) * 50  # fmt: skip
    groups = [gap[tables["opmask-R50-voc", 0]["category_id"] == c].tolist() for c in NOVEL]
    means = [
        np.mean([value for group, n in zip(groups, w, strict=True) for value in group * int(n)])
        for w in image_weights(len(groups), **BOOTSTRAP)
    ]
    expected = np.quantile(means, [0.025, 0.975])
    assert row[["class_low", "class_high"]].tolist() == pytest.approx(expected.tolist())


def test_the_table_has_every_run_and_floor(evaluated):
    folder, runs, tables = evaluated
    table = oracle_table(oracle_of(folder, runs)).set_index(["classes", "method"])
    methods = ["opmask", "maskrcnn", "box", "ellipse", "mean mask"]  # without a mask head: no row
    assert table.index.tolist() == [(c, m) for c in ("novel", "supervised") for m in methods]
    a, b, _ = naive_gain(tables)
    ours, other = table.loc[("novel", "opmask")], table.loc[("novel", "maskrcnn")]
    assert (ours["iou"], other["iou"]) == pytest.approx((a, b)) and ours["seeds"] == 2
    both = pd.concat([tables["opmask-R50-voc", seed] for seed in (0, 1)])
    both = both[both["category_id"].isin(NOVEL)]
    assert ours["over50"] == pytest.approx(100 * (both["iou"] >= 0.5).mean())
    assert ours["over75"] == pytest.approx(100 * (both["iou"] >= 0.75).mean())
    assert ours["right"] == pytest.approx(
        100 * (both["predicted_id"] == both["category_id"]).mean()
    )
    assert (ours["boundary_iou"], ours["iou_predicted"]) == pytest.approx((a / 2, a / 4))
    assert ours["objects"] == len(both) / 2
    by_seed = both.groupby(np.repeat([0, 1], len(both) // 2))["iou"].mean() * 100
    assert ours["sd"] == pytest.approx(by_seed.std())
    floor = table.loc[("novel", "ellipse"), "iou"]
    assert ours["floor"] == other["floor"] == "ellipse" and table["ap"].notna().sum() == 4
    assert other["above_floor"] == pytest.approx(b - floor)
    assert ours["side"] == "above" and other["side"] == "below"
    assert other["above_low"] < other["above_floor"] < other["above_high"] < 0
    per_class = both.groupby("category_id")["iou"].mean() * 100
    assert ours["by_class"] == pytest.approx(per_class.mean())
    assert ours["by_class"] != pytest.approx(ours["iou"], abs=1e-3)
    ellipse = table.loc[("novel", "ellipse"), "by_class"]
    assert ours["by_class_above"] == pytest.approx(ours["by_class"] - ellipse)
    assert 0 < ours["by_class_low"] < ours["by_class_above"] < ours["by_class_high"]


def test_the_interval_of_the_mean_over_classes_resamples_images(evaluated):
    folder, runs, tables = evaluated
    oracle = oracle_of(folder, runs)
    name, first = "opmask-R50-voc", tables["opmask-R50-voc", 0]
    novel = first[first["category_id"].isin(NOVEL)]
    mean = (tables[name, 0]["iou"] + tables[name, 1]["iou"])[novel.index] * 50
    images = sorted(first["image_id"].unique())
    draws = []
    for weights in image_weights(len(images), **BOOTSTRAP):
        count = dict(zip(images, weights, strict=True))
        w = novel["image_id"].map(count)
        sums = (mean * w).groupby(novel["category_id"]).sum()
        totals = w.groupby(novel["category_id"]).sum()
        draws.append((sums / totals.where(totals > 0)).mean())
    found = oracle.by_class(oracle.scores(name), pd.Index(novel["annotation_id"]))
    value = mean.groupby(novel["category_id"]).mean().mean()
    low, high = value + np.quantile(draws - np.mean(draws), [0.025, 0.975])
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))


def test_parts_are_the_means_of_their_objects(evaluated):
    folder, runs, tables = evaluated
    one = tables["opmask-R50-voc", 0]
    ambiguous = pd.Series(one["annotation_id"].to_numpy() % 3 == 0, index=one["annotation_id"])
    names = pd.Series([f"class {c}" for c in CLASSES], index=list(CLASSES))
    parts = oracle_parts(oracle_of(folder, runs), ambiguous, names)
    found = parts[parts["method"] == "opmask"].set_index(["classes", "by", "level"])["iou"]
    mean = (one["iou"] + tables["opmask-R50-voc", 1]["iou"]) * 50
    novel = one["category_id"].isin(NOVEL)
    chosen = {
        ("novel", "class", "class 5"): one["category_id"] == 5,
        ("novel", "size", "m"): novel & (one["area"] == 5000),
        ("novel", "size", "l"): novel & (one["area"] == 20000),
        ("novel", "ambiguity", "ambiguous"): novel & (one["annotation_id"] % 3 == 0),
        ("supervised", "ambiguity", "clean"): ~novel & (one["annotation_id"] % 3 > 0),
    }
    for key, rows in chosen.items():
        assert found[key] == pytest.approx(mean[rows].mean()), key
    assert ("supervised", "class", "class 5") not in found.index


def test_only_the_same_objects_are_compared(evaluated, tmp_path):
    folder, runs, _ = evaluated
    other = write_run(
        tmp_path, "maskrcnn-R50-voc", 0, *simulate(np.random.default_rng(0), found=(0.9,))
    )
    write_objects(tmp_path / "evaluate" / other.key, 3, drop=1)
    oracle = oracle_of(tmp_path, [other])
    with pytest.raises(ValueError, match="same objects"):
        oracle.scores("maskrcnn-R50-voc") - oracle_of(folder, runs).scores("opmask-R50-voc")


def test_ap_with_perfect_boxes_is_cocos(tmp_path):
    """An object an image and class, so that no mask can find another's object."""
    rng = np.random.default_rng(0)
    rows, annotations, detections = [], [], []
    for number in range(1, 41):
        truth = np.zeros((24, 24), bool)
        truth[4:20, 4:20] = True
        mask = truth.copy()
        mask[4 : rng.integers(5, 20)] = False
        ids = {"image_id": number, "category_id": 1 + number % 2}
        score = float(rng.integers(1, 9)) / 10
        annotations.append({**ids, "id": number, "bbox": [4, 4, 16, 16], "iscrowd": 0,
                            "segmentation": rle(truth), "area": 256})  # fmt: skip
        detections.append({**ids, "score": score, "segmentation": rle(mask)})
        iou = (mask & truth).sum() / truth.sum()
        rows.append({**ids, "annotation_id": number, "score": score, "iou": iou})
    data = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 24}
                   for n in range(1, 41)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }  # fmt: skip
    path = tmp_path / "all.json"
    path.write_text(json.dumps(data))
    result = evaluate(path, detections, task="segm")
    ours, theirs = as_matches(pd.DataFrame(rows)), result.matches
    np.testing.assert_allclose(THRESHOLDS, theirs.iou_thresholds)
    for name in ("image", "category", "score", "matched", "gt_image", "gt_category"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    run = write_run(
        tmp_path, "opmask-R50-mine", 0, *simulate(np.random.default_rng(0), found=(0.9,))
    )
    write_oracle(pd.DataFrame(rows).assign(area=9), tmp_path / "evaluate" / run.key)
    expected = subset_summary(result.per_class(), [1, 2])["AP"]
    assert oracle_of(tmp_path, [run]).ap("opmask-R50-mine", [1, 2]) == pytest.approx(expected)


def test_table_1_has_it_as_context(evaluated):
    folder, runs, tables = evaluated
    oracle = oracle_of(folder, runs)
    gains = {("R50", "voc"): {}}
    summary, gains = with_oracle(summarise(read_per_class(folder, runs)), gains, oracle)
    table = table1(summary, gains).query("backbone == 'R50' and supervised == 'voc'")
    cells = table[table["task"] == "oracle"].set_index(["classes", "method"])
    a, b, draws = naive_gain(tables)
    found = cells.loc["novel"]
    assert found.loc[["OPMask", "Our Mask R-CNN"], "ours"].tolist() == pytest.approx([a, b])
    gap = found.loc["difference"]
    assert gap["ours"] == pytest.approx(a - b) and gap["low"] < a - b < gap["high"]
    assert set(table["metric"]) >= {"AP", "IoU"} and cells["paper"].isna().all()


def test_stage(tmp_path, monkeypatch, evaluated):
    folder, runs, tables = evaluated
    params = PARAMS | {"bootstrap": BOOTSTRAP, "seeds": [0, 1, 2], "runs": [r.name for r in runs]}
    params["runs"] = list(dict.fromkeys(params["runs"]))
    write_params(params, tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / params["scale"]).symlink_to(folder)
    ids = tables["opmask-R50-voc", 0]["annotation_id"]
    frame = pd.DataFrame({"annotation_id": ids, "ambiguous": ids % 2 == 0})
    frame.to_csv(folder / "ambiguity.csv", index=False)
    monkeypatch.chdir(tmp_path)
    stage.run([])
    made = tmp_path / "reports" / params["scale"] / "tables"
    page = (made / "oracle.md").read_text()
    assert "voc → non-voc, novel classes, best floor ellipse: **below** it: Mask R-CNN" in page
    lines = [line for line in page.splitlines() if line.startswith("| R-50-FPN")]
    assert [", below" in line for line in lines] == [False, True, False, True]
    assert (made / "oracle.tex").read_text().count("\\begin{table}") == 2
    parts = pd.read_csv(made / "oracle_parts.csv")
    assert set(parts["by"]) == {"class", "size", "ambiguity"}
