"""Ambiguity against naive pixel loops, matching against COCOeval, gains against statsmodels."""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from parameters import write_params
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from opmask.data.splits import COCO_CLASSES
from opmask.evaluation.coco_ap import evaluate, subset_summary
from pipeline import ambiguity as stage
from study.analysis import ambiguity
from study.analysis.ambiguity_effect import bin_table, effect_table, pairs
from study.report.blocks import Bullets
from study.report.markdown import markdown
from study.report.views.ambiguity import blocks, findings, sentences
from study.spec.params import load_params
from study.spec.run import Run

SIZE = 12


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {**encoded, "counts": encoded["counts"].decode()}


def annotation(number, image, category, box, mask=None, **more):
    shape = {} if mask is None else {"segmentation": rle(mask), "area": int(mask.sum())}
    ids = {"id": number, "image_id": image, "category_id": category}
    return {**ids, "bbox": list(box), "iscrowd": 0, **shape, **more}


def dataset(annotations, images=1, size=SIZE, categories=(1, 2)):
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": size, "height": size}
            for n in range(1, images + 1)
        ],
        "annotations": list(annotations),
        "categories": [{"id": c, "name": f"class {c}"} for c in categories],
    }


def rectangle(x, y, w, h, size=SIZE):
    mask = np.zeros((size, size), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_by_hand():
    """A 4 × 4 box whose right half a neighbour covers; the neighbour has a mask of 2 × 4."""
    left, right = rectangle(0, 0, 2, 4), rectangle(2, 0, 2, 4)
    objects = ambiguity.read_objects(
        dataset([annotation(1, 1, 1, (0, 0, 4, 4), left), annotation(2, 1, 2, (2, 0, 2, 4), right)])
    )
    assert objects["ambiguity"].tolist() == [0.5, 0.0]
    assert objects["area"].tolist() == [8, 8]
    found = ambiguity.measure(
        objects,
        [{"score": 0.9, "segmentation": rle(rectangle(0, 0, 3, 4))}],
        np.array([0, -1]),
    )
    first = found.iloc[0]
    assert first["mask_iou"] == pytest.approx(8 / 12) and first["coverage"] == 1
    assert first["confusion"] == 0.5 and first["perforation"] == 0
    assert found.drop(columns="detection").loc[1].isna().all() and found["detection"][1] == -1


def test_an_instance_without_mask_covers_its_box_and_has_no_row():
    objects = ambiguity.read_objects(
        dataset(
            [
                annotation(1, 1, 1, (0, 0, 4, 4), rectangle(0, 0, 4, 4)),
                annotation(2, 1, 1, (0, 0, 4, 1)),
                annotation(3, 1, 1, (0, 3, 4, 1), rectangle(0, 3, 4, 1), iscrowd=1),
            ]
        )
    )
    assert objects["annotation_id"].tolist() == [1]
    assert objects["ambiguity"].tolist() == [0.5]  # the crowd region covers, too


def pixels(start, length):
    """The pixels of one side whose centres lie in a box, the next one if there is none."""
    inside = [i for i in range(SIZE) if start <= i + 0.5 < start + length]
    return inside or [min(max(math.ceil(start - 0.5), 0), SIZE - 1)]


boxes = st.tuples(*[st.floats(-2, 11)] * 2, *[st.floats(0.1, 9)] * 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(boxes, st.none() | arrays(bool, (SIZE, SIZE)), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
@example([((0, 0, 4, 4), np.ones((SIZE, SIZE), bool), False), ((0, -1, 1, 1), None, False)])
def test_ambiguity_against_a_loop_over_pixels(shapes):
    annotations = [
        annotation(n, 1, 1, box, mask if mask is not None and mask.any() else None, iscrowd=int(c))
        for n, (box, mask, c) in enumerate(shapes, 1)
    ]
    regions = {}
    for a in annotations:
        x, y, w, h = a["bbox"]
        inside = set(product(pixels(y, h), pixels(x, w)))
        mask = "segmentation" in a and mask_util.decode(a["segmentation"])
        own = inside if mask is False else set(zip(*np.nonzero(mask), strict=True))
        regions[a["id"]] = (inside, own)
    objects = ambiguity.read_objects(dataset(annotations))
    for k, row in enumerate(objects.itertuples()):
        inside, own = regions[row.annotation_id]
        others = set().union(*(r for n, (_, r) in regions.items() if n != row.annotation_id))
        assert row.ambiguity == pytest.approx(len(inside & others) / len(inside))
        rivals = set(zip(*np.nonzero(mask_util.decode(objects["rivals"][k])), strict=True))
        assert rivals == (inside & others) - own


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (SIZE, SIZE)), arrays(bool, (SIZE, SIZE)))
def test_measures_against_arrays(predicted, own):
    own[0, 0] = True
    box = (0, 0, SIZE, SIZE)
    rival = rectangle(3, 3, 5, 5)
    data = dataset([annotation(1, 1, 1, box, own), annotation(2, 1, 1, (3, 3, 5, 5), rival)])
    objects = ambiguity.read_objects(data)
    detections = [{"score": 0.5, "segmentation": rle(predicted)}]
    found = ambiguity.measure(objects, detections, np.array([0, -1])).iloc[0]
    assert found["mask_iou"] == pytest.approx((predicted & own).sum() / (predicted | own).sum())
    assert found["coverage"] == pytest.approx((predicted & own).sum() / own.sum())
    foreign = rival & ~own
    if foreign.any():
        assert found["confusion"] == pytest.approx((predicted & foreign).sum() / foreign.sum())
    else:
        assert math.isnan(found["confusion"])
    filled = ndimage.binary_fill_holes(predicted)
    if filled.any():
        wrong = filled & ~predicted & own
        assert found["perforation"] == pytest.approx(wrong.sum() / filled.sum())
    else:
        assert math.isnan(found["perforation"])


def test_a_hole_that_the_object_has_is_no_defect():
    ring = rectangle(0, 0, 5, 5)
    ring[2, 2] = False
    assert ambiguity.perforation(rle(ring), rle(ring)) == 0
    assert ambiguity.perforation(rle(ring), rle(rectangle(0, 0, 5, 5))) == pytest.approx(1 / 25)


def random_scene(rng, images=6, objects=5, detections=12, size=60):
    def box():
        return (*rng.uniform(0, 30, 2).round(2), *rng.uniform(8, 28, 2).round(2))

    truth, found = [], []
    for image in range(1, images + 1):
        for _ in range(objects):
            x, y, w, h = (int(v) for v in box())
            mask = rectangle(x, y, w, h, size)
            category = int(rng.integers(1, 3))
            truth.append(annotation(len(truth) + 1, image, category, (x, y, w, h), mask))
        for _ in range(detections):
            near = truth[-int(rng.integers(1, objects + 1))]
            b = np.maximum(np.array(near["bbox"]) + rng.normal(0, 3, 4), [0, 0, 2, 2]).round(3)
            x, y, w, h = (int(v) for v in b)
            found.append(
                {
                    "image_id": image,
                    "category_id": near["category_id"],
                    "bbox": b.tolist(),
                    "score": float(rng.random()),
                    "segmentation": rle(rectangle(x, y, w, h, size)),
                }
            )
    return dataset(truth, images, size), found


@pytest.mark.parametrize("seed", range(4))
def test_matching_is_that_of_cocoeval(seed, capsys):
    data, found = random_scene(np.random.default_rng(seed))
    truth = COCO()
    truth.dataset = data
    truth.createIndex()
    evaluator = COCOeval(truth, truth.loadRes([dict(d) for d in found]), "bbox")
    evaluator.params.iouThrs = np.array([0.5])
    evaluator.params.areaRng = evaluator.params.areaRng[:1]
    evaluator.evaluate()
    expected = {}
    for entry in evaluator.evalImgs:
        if entry:
            matches = zip(entry["gtIds"], entry["gtMatches"][0], strict=True)
            expected.update({truth_id: int(found_id) - 1 for truth_id, found_id in matches})
    frame = ambiguity.read_objects(data)
    got = dict(zip(frame["annotation_id"], ambiguity.match(frame, found).tolist(), strict=True))
    assert got == expected and 5 < sum(index >= 0 for index in got.values()) < len(got)


def run(method, seed=0, backbone="R50", supervised="voc"):
    name = f"{method}-{backbone}-{supervised}"
    return Run(name, method, backbone, supervised, "130k", seed)


def test_ap_of_a_group_that_is_everything_is_the_ap(tmp_path):
    data, found = random_scene(np.random.default_rng(5))
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(data))
    objects = ambiguity.read_objects(data)
    names = [c["name"] for c in data["categories"]]
    frame = ambiguity.describe(run("opmask"), objects, found, data["categories"], names[:1], 1.0)
    by_group = ambiguity.group_ap(data, frame, found).set_index("group")["AP"]
    expected = subset_summary(evaluate(path, found, task="segm").per_class(), [1])["AP"]
    assert by_group["clean"] == pytest.approx(expected) and 0 < expected < 100
    assert math.isnan(by_group["ambiguous"])


def test_ap_of_a_group_leaves_the_other_out():
    """Right masks in the clean RoI, empty ones in the ambiguous: 100 and 0, not 50 and 50."""
    alone, pair = rectangle(0, 0, 3, 3), rectangle(6, 6, 4, 2)
    rows = [
        annotation(1, 1, 1, (0, 0, 3, 3), alone),
        annotation(2, 1, 1, (6, 6, 4, 4), pair),
        annotation(3, 1, 2, (6, 8, 4, 2), rectangle(6, 8, 4, 2)),
    ]
    data = dataset(rows)
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": a["bbox"], "score": 0.9, "segmentation": rle(m)}
        for a, m in zip(rows, (alone, rectangle(6, 9, 1, 1)), strict=False)
    ]
    objects = ambiguity.read_objects(data)
    categories = data["categories"]
    frame = ambiguity.describe(run("opmask"), objects, detections, categories, ["class 1"], 0.2)
    assert frame["ambiguous"].tolist() == [False, True, False]
    assert frame["supervision"].tolist() == ["novel", "novel", "supervised"]
    assert ambiguity.group_ap(data, frame, detections)["AP"].tolist() == pytest.approx([0, 100])


def synthetic(rng, images=150, methods=("opmask", "maskrcnn"), seeds=(0,), extra=0.1, **identity):
    """Matched instances × runs: the gain is 0.1, plus `extra` where ambiguous; clustered noise."""
    frames = []
    image = np.repeat(np.arange(images), rng.integers(1, 8, images))
    share = rng.uniform(0, 0.6, len(image))
    effect = rng.normal(0, 0.1, images)[image]
    for seed in seeds:
        for method in methods:
            gain = (0.1 + effect + extra * (share > 0.2)) * (method == "opmask")
            value = 0.4 + gain + rng.normal(0, 0.05, len(image))
            frames.append(
                pd.DataFrame(
                    {
                        **{"run": method, "method": method, "backbone": "R50"},
                        **{"supervised": "voc", "seed": seed, "image_id": image},
                        "annotation_id": range(len(image)),
                        **{"supervision": "novel", "detection": 0},
                        **{"ambiguity": share, "ambiguous": share > 0.2, **identity},
                        **dict.fromkeys([*ambiguity.MEASURES, ambiguity.IN_TRUE_BOX], value),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


NO_AP = pd.DataFrame(columns=["backbone", "supervised", "method", "seed", "group", "AP"])


def cell(table, group, measure="mask_iou", contrast="opmask-maskrcnn", **where):
    where = {"backbone": "R50", "supervised": "voc", "classes": "novel", **where}
    where |= {"group": group, "measure": measure, "contrast": contrast}
    rows = table.loc[(table[list(where)] == pd.Series(where)).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_gain_and_its_interval_against_clustered_regression():
    frame = synthetic(np.random.default_rng(0))
    table = effect_table(frame, NO_AP, range(150), resamples=2000, seed=0)
    paired = pairs(frame, ("opmask", "maskrcnn"))
    paired["d"] = 100 * (paired["mask_iou_a"] - paired["mask_iou_b"])
    paired["x"] = paired["ambiguous"].astype(int)
    from statsmodels.formula.api import ols  # seconds, of the one process that runs this

    fit = ols("d ~ x", paired).fit(cov_type="cluster", cov_kwds={"groups": paired["image_id"]})
    clean, difference = cell(table, "clean"), cell(table, "difference")
    assert clean["gain"] == pytest.approx(fit.params["Intercept"])
    assert difference["gain"] == pytest.approx(fit.params["x"])
    for row, name in ((clean, "Intercept"), (difference, "x")):
        assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * fit.bse[name], rel=0.1)
        assert row["low"] < row["gain"] < row["high"]
    assert clean["gain"] == pytest.approx(clean["a"] - clean["b"])
    assert clean["instances"] == (frame["ambiguity"] <= 0.2).sum() / 2


def test_only_what_both_found_is_compared():
    frame = synthetic(np.random.default_rng(1), images=30)
    chosen = (frame["method"] == "maskrcnn") & (frame["annotation_id"] % 2 == 0)
    frame.loc[chosen, ["detection", *ambiguity.MEASURES]] = [-1, *[np.nan] * 4]
    paired = pairs(frame, ("opmask", "maskrcnn"))
    assert len(paired) and (paired["annotation_id"] % 2 == 1).all()


def test_in_true_boxes_every_instance_counts():
    frame = synthetic(np.random.default_rng(1), images=30)
    chosen = (frame["method"] == "maskrcnn") & (frame["annotation_id"] % 2 == 0)
    frame.loc[chosen, ["detection", *ambiguity.MEASURES]] = [-1, *[np.nan] * 4]
    table = effect_table(frame, NO_AP, range(30), resamples=50, seed=0)
    one, other = (frame[frame["method"] == m] for m in ("opmask", "maskrcnn"))
    clean = ~one["ambiguous"].to_numpy()
    gap = 100 * (one["oracle_iou"].to_numpy() - other["oracle_iou"].to_numpy())[clean].mean()
    row = cell(table, "clean", "oracle_iou")
    assert row["gain"] == pytest.approx(gap) and row["instances"] == clean.sum()
    assert cell(table, "clean")["instances"] < clean.sum()


def test_iou_in_true_boxes_goes_by_annotation():
    data, found = random_scene(np.random.default_rng(5))
    objects = ambiguity.read_objects(data)
    names = [c["name"] for c in data["categories"]]
    ids = objects["annotation_id"].to_numpy()
    known = pd.Series(ids / 1000, index=ids)[::-1]
    arguments = (run("opmask"), objects, found, data["categories"], names[:1], 1.0)
    frame = ambiguity.describe(*arguments, known)
    assert frame["oracle_iou"].tolist() == (ids / 1000).tolist()
    assert ambiguity.describe(*arguments)["oracle_iou"].isna().all()


def test_seeds_give_mean_and_spread():
    frame = synthetic(np.random.default_rng(2), images=40, seeds=(0, 1, 2))
    table = effect_table(frame, NO_AP, range(40), resamples=50, seed=0)
    single = [frame[frame["seed"] == seed] for seed in (0, 1, 2)]
    tables = [effect_table(one, NO_AP, range(40), resamples=5, seed=0) for one in single]
    alone = [cell(one, "clean") for one in tables]
    row = cell(table, "clean")
    assert row["seeds"] == 3 and row["instances"] == alone[0]["instances"]
    assert row["gain"] == pytest.approx(np.mean([one["gain"] for one in alone]))
    assert row["sd"] == pytest.approx(np.std([one["gain"] for one in alone], ddof=1))
    assert math.isnan(alone[0]["sd"])


def test_missing_values_leave_the_instance_out_of_both():
    frame = synthetic(np.random.default_rng(3), images=30)
    frame.loc[(frame["method"] == "opmask") & ~frame["ambiguous"], "confusion"] = np.nan
    table = effect_table(frame, NO_AP, range(30), resamples=20, seed=0)
    assert cell(table, "clean", "confusion")["instances"] == 0
    assert math.isnan(cell(table, "clean", "confusion")["b"])
    assert cell(table, "ambiguous", "confusion")["gain"] == cell(table, "ambiguous")["gain"]


def test_ap_rows():
    rows = [
        ("R50", "voc", method, 0, group, value)
        for method, values in (("opmask", (30, 50)), ("maskrcnn", (10, 45)))
        for group, value in zip(("ambiguous", "clean"), values, strict=True)
    ]
    ap = pd.DataFrame(rows, columns=NO_AP.columns)
    frame = synthetic(np.random.default_rng(0), images=10)
    table = effect_table(frame, ap, range(10), resamples=10, seed=0)
    found = [cell(table, group, "AP") for group in ("ambiguous", "clean", "difference")]
    assert [(row["a"], row["b"], row["gain"]) for row in found] == [
        pytest.approx(values) for values in ((30, 10, 20), (50, 45, 5), (-20, -35, 15))
    ]
    assert cell(table, "clean", "AP", contrast="maskrcnn7-maskrcnn")["seeds"] == 0


def test_bins_hold_every_instance_once():
    frame = synthetic(np.random.default_rng(4), images=60)
    frame.loc[frame["annotation_id"] < 5, "ambiguity"] = 0.0
    bins = bin_table(frame, range(60), resamples=20, seed=0)
    paired = pairs(frame, ("opmask", "maskrcnn"))
    assert bins["instances"].sum() == len(paired)
    inside = paired[(paired["ambiguity"] > 0.1) & (paired["ambiguity"] <= 0.2)]
    row = bins[bins["bin_low"] == 0.1].iloc[0]
    assert row["instances"] == len(inside)
    expected = 100 * (inside["mask_iou_a"] - inside["mask_iou_b"]).mean()
    assert row["gain"] == pytest.approx(expected)
    assert row["ambiguity"] == pytest.approx(inside["ambiguity"].mean())


@pytest.mark.parametrize(
    ("extra", "words"),
    [(0.3, "as the paper explains"), (-0.3, "against the paper"), (0, "not decided")],
)
def test_page_says_what_was_found(extra, words):
    frame = synthetic(np.random.default_rng(0), extra=extra)
    table = effect_table(frame, NO_AP, range(150), resamples=200, seed=0)
    found = sentences(table)
    assert words in found[1] and all("not run" in found[n] for n in (0, 2, 3))
    mine = "classes == 'novel' and measure == 'mask_iou' and seeds > 0"
    gains = table.query(mine).set_index("group")["gain"]
    for group in ("ambiguous", "clean"):
        direction = "higher" if gains[group] > 0 else "lower"
        assert f"{abs(gains[group]):.1f} points {direction}" in found[1], group
    page = markdown(blocks(table.round(3), 0.2))
    for block in page.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "not run" in page and "7-conv control" in page and "nan" not in page
    gain = table.query(mine).set_index("group").loc["clean", ["low", "high"]]
    low, high = (f"{value:+.2f}".replace("-", "−") for value in gain)
    assert f"({low} to {high})" in found[1]
    assert Bullets(found) in findings(table)


def write_project(folder, runs):
    """A data set of 80 classes with 6 images, and detections of `runs`."""
    data, found = random_scene(np.random.default_rng(0))
    data["categories"] = [{"id": n, "name": name} for n, name in enumerate(COCO_CLASSES, 1)]
    for row in [*data["annotations"], *found]:
        row["category_id"] = {1: 1, 2: 48}[row["category_id"]]  # person, banana
    root = folder / "data" / "smoke"
    root.mkdir(parents=True)
    (root / "val.json").write_text(json.dumps(data))
    place = {"annotations": "val.json", "images": "val", "counts": {}}
    manifest = {"kind": "coco", "root": ".", "categories": data["categories"]}
    (root / "manifest.json").write_text(json.dumps({**manifest, "train": place, "val": place}))
    params = load_params()
    params |= {"scale": "smoke", "runs": runs, "seeds": [0]}
    params["bootstrap"] = {"resamples": 20, "seed": 0}
    write_params(params, folder)
    (folder / "runs" / "smoke").mkdir(parents=True)
    for name in runs:
        out = folder / "runs" / "smoke" / "evaluate" / f"{name}-0"
        out.mkdir(parents=True)
        (out / "detections.json").write_text(json.dumps(found))


@pytest.mark.parametrize("runs", [["opmask-R50-voc", "maskrcnn-R50-voc"], ["fasterrcnn-R50-all"]])
def test_stage(tmp_path, monkeypatch, runs):
    write_project(tmp_path, runs)
    monkeypatch.chdir(tmp_path)
    stage.run([])
    frame = pd.read_csv("runs/smoke/ambiguity.csv")
    table = pd.read_csv("reports/smoke/tables/ambiguity.csv")
    text = Path("reports/smoke/tables/ambiguity.md").read_text()
    for suffix in ("png", "svg", "csv"):
        assert Path(f"reports/smoke/figures/ambiguity.{suffix}").stat().st_size
    if "opmask-R50-voc" in runs:
        assert len(frame) == 2 * 30
        row = cell(table, "ambiguous")
        assert row["gain"] == 0 and row["instances"] > 0  # the same detections
        assert "R-50-FPN, voc → non-voc: in ambiguous RoIs (" in text
    else:
        assert not len(frame) and (table["seeds"] == 0).all() and text.count("not run") > 4
