"""One evaluation pass equals pycocotools: per class, on subsets of classes, match by match."""

import copy

import numpy as np
import pytest
from coco_reference import (
    BOXES,
    CATEGORIES,
    as_segm,
    datasets,
    make_ground_truth,
    metrics_of,
    pycocotools_eval,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from opmask.errors import UserError
from opmask.evaluation.coco_ap import METRICS, Matches, evaluate, subset_summary

TASKS = ["bbox", "segm"]


@pytest.fixture(scope="module")
def gt_file(tmp_path_factory):
    """Writes a ground truth to a file, again and again: hypothesis needs no fresh folder."""
    path = tmp_path_factory.mktemp("gt") / "instances.json"
    return lambda ground_truth: write(path, ground_truth)


@pytest.mark.parametrize("task", TASKS)
@given(data=datasets(), subset=st.sets(st.sampled_from(CATEGORIES), min_size=1))
@settings(max_examples=40, deadline=None)
def test_equals_pycocotools(gt_file, task, data, subset):
    ground_truth, boxes = data
    detections = as_segm(boxes) if task == "segm" else boxes
    table = evaluate(gt_file(ground_truth), detections, task=task).per_class()

    reference = pycocotools_eval(ground_truth, detections, task)
    assert table["category_id"].tolist() == reference.params.catIds == sorted(CATEGORIES)
    for k, row in table.iterrows():
        expected = metrics_of(reference.eval["precision"][..., -1][:, :, [k]])
        np.testing.assert_allclose(row[list(METRICS)].astype(float), expected, atol=1e-9)
        objects = [a for a in ground_truth["annotations"] if a["category_id"] == row.category_id]
        assert row.instances == sum(not a["iscrowd"] for a in objects)

    restricted = pycocotools_eval(ground_truth, detections, task, subset)
    expected = np.where(restricted.stats[:6] < 0, np.nan, 100 * restricted.stats[:6])
    np.testing.assert_allclose(list(subset_summary(table, subset).values()), expected, atol=1e-9)


@given(data=datasets())
@settings(max_examples=40, deadline=None)
def test_matches_equal_pycocotools_in_its_order(gt_file, data):
    ground_truth, detections = data
    matches = evaluate(gt_file(ground_truth), detections, task="bbox").matches
    reference = pycocotools_eval(ground_truth, detections, "bbox")
    for k, category in enumerate(reference.params.catIds):
        entries = [
            e
            for e in reference.evalImgs
            if e and e["category_id"] == category and e["aRng"] == reference.params.areaRng[0]
        ]
        mine = matches.category == k
        objects = matches.gt_image[matches.gt_category == k]
        of_image = np.sort([e["image_id"] for e in entries for ig in e["gtIgnore"] if not ig])
        np.testing.assert_array_equal(np.sort(matches.image_ids[objects]), of_image)
        assert mine.sum() == sum(len(e["dtScores"]) for e in entries)
        if not mine.any():
            continue
        score = np.concatenate([e["dtScores"] for e in entries])
        order = np.argsort(-score, kind="mergesort")
        images = np.repeat([e["image_id"] for e in entries], [len(e["dtIds"]) for e in entries])
        np.testing.assert_array_equal(matches.score[mine], score[order])
        np.testing.assert_array_equal(matches.image_ids[matches.image[mine]], images[order])
        for ours, theirs in (("matched", "dtMatches"), ("ignored", "dtIgnore")):
            expected = np.concatenate([e[theirs] for e in entries], axis=1)[:, order] > 0
            np.testing.assert_array_equal(getattr(matches, ours)[mine], expected.T)


def test_only_the_100_best_of_a_class_and_image_count(gt_file):
    ground_truth = make_ground_truth([1, 2], [(1, 3, BOXES[0], 0), (2, 3, BOXES[0], 0)])
    misses = [
        {"image_id": 1, "category_id": 3, "bbox": BOXES[-1], "score": 0.5 + n / 1000}
        for n in range(100)
    ]
    hits = [{"image_id": i, "category_id": 3, "bbox": BOXES[0], "score": 0.1} for i in (1, 2)]
    result = evaluate(gt_file(ground_truth), misses + hits, task="bbox")
    assert len(result.matches.score) == 101
    # One object of two is found, at rank 101: precision 1/101 for the 51 recalls 0 … 0.5.
    ap = result.per_class().set_index("category_id").loc[3, "AP"]
    assert ap == pytest.approx(100 * 51 / 101 / 101)


@pytest.mark.parametrize("task", TASKS)
def test_no_detections_is_zero_where_there_are_objects(gt_file, task):
    path = gt_file(make_ground_truth([5], [(5, 7, BOXES[0], 0), (5, 1, BOXES[0], 1)]))
    result = evaluate(path, [], task=task)
    table = result.per_class().set_index("category_id")
    assert table.loc[7, ["AP", "AP50", "AP75", "APs"]].tolist() == [0, 0, 0, 0]
    assert table.loc[7, ["APm", "APl"]].isna().all()
    assert table.loc[1, list(METRICS)].isna().all()  # a crowd only
    assert result.matches.matched.shape == (0, 10)


def test_mask_sizes_come_from_the_mask(gt_file):
    """A detection's box is not its mask: pycocotools sorts it by box area if both are there."""
    ground_truth = make_ground_truth([1], [(1, 3, BOXES[0], 0)])
    large_box_on_a_small_false_mask = {
        "image_id": 1,
        "category_id": 3,
        "score": 0.9,
        "bbox": [0.0, 0.0, 200.0, 200.0],
        "segmentation": as_segm([{"bbox": [100.0, 100.0, 10.0, 10.0]}])[0]["segmentation"],
    }
    hit = as_segm([{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOXES[0]}])
    table = evaluate(
        gt_file(ground_truth), [large_box_on_a_small_false_mask, *hit], task="segm"
    ).per_class()
    assert table.set_index("category_id").loc[3, "APs"] == pytest.approx(50)


def test_an_object_of_id_zero_can_be_found(gt_file):
    """Where pycocotools has it as a false positive; all else must not depend on ids."""
    ground_truth = make_ground_truth([1], [(1, 3, BOXES[0], 0)])
    ground_truth["annotations"][0]["id"] = 0
    hit = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOXES[0]}
    result = evaluate(gt_file(ground_truth), [hit], task="bbox")
    assert result.per_class().set_index("category_id").loc[3, "AP"] == pytest.approx(100)
    assert result.matches.matched.all()


def test_detections_stay_as_they_are(gt_file):
    detections = as_segm([{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOXES[0]}])
    before = copy.deepcopy(detections)
    evaluate(gt_file(make_ground_truth([1], [])), detections, task="segm")
    assert detections == before


def test_matches_survive_a_file(gt_file, tmp_path):
    ground_truth = make_ground_truth([4, 2], [(2, 3, BOXES[0], 0), (4, 1, BOXES[1], 1)])
    hit = {"image_id": 2, "category_id": 3, "score": 1 / 3, "bbox": BOXES[0]}
    matches = evaluate(gt_file(ground_truth), [hit], task="bbox").matches
    matches.save(tmp_path / "matches.npz")
    loaded = Matches.load(tmp_path / "matches.npz")
    for name, value in vars(matches).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
        assert getattr(loaded, name).dtype == value.dtype


GOOD = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOXES[0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": None}, "no 'bbox'"),
        ({"image_id": 9}, "image_id 9"),
        ({"category_id": 4}, "category_id 4"),
        ({"score": float("nan")}, "NaN"),
    ],
)
def test_unfit_detections_are_refused(gt_file, change, message):
    path = gt_file(make_ground_truth([1], []))
    with pytest.raises(ValueError, match=message):
        evaluate(path, [GOOD, GOOD | change], task="bbox")


def test_unfit_ground_truth_is_refused(gt_file):
    ground_truth = make_ground_truth([1], [(1, 3, BOXES[0], 0)])
    del ground_truth["annotations"][0]["segmentation"]
    evaluate(gt_file(ground_truth), [GOOD], task="bbox")
    with pytest.raises(UserError, match="no mask, which evaluation needs: annotation 1$"):
        evaluate(gt_file(ground_truth), [], task="segm")
    ground_truth["images"] *= 2
    with pytest.raises(UserError, match="duplicate id in 'images': 1"):
        evaluate(gt_file(ground_truth), [], task="bbox")
    with pytest.raises(ValueError, match="allowed are bbox, segm"):
        evaluate(gt_file(ground_truth), [], task="box")


def test_a_file_as_it_was_exported_is_evaluated_without_degenerate_shapes(gt_file):
    ground_truth = make_ground_truth([1], [(1, 3, BOXES[0], 0), (1, 3, BOXES[1], 0)])
    square = [0, 0, 20, 0, 20, 20, 0, 20]
    ground_truth["annotations"][0]["segmentation"] = [square, [50, 50, 90, 50, 90, 90, 7]]
    ground_truth["annotations"][1]["bbox"] = [0, 0, 0, 20]
    ground_truth |= {"info": {"year": "2024"}, "licenses": None}
    hit = as_segm([{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": BOXES[0]}])
    table = evaluate(gt_file(ground_truth), hit, task="segm").per_class()
    row = table.set_index("category_id").loc[3]
    assert row["instances"] == 1 and row["AP"] == pytest.approx(100)


def test_subset_needs_one_row_a_category(gt_file):
    table = evaluate(gt_file(make_ground_truth([1], [])), [], task="bbox").per_class()
    assert np.isnan(subset_summary(table, [3, 7])["AP"])
    with pytest.raises(ValueError, match=r"\[99\]"):
        subset_summary(table, [3, 99])
    with pytest.raises(ValueError, match=r"\[3\]"):
        subset_summary(table.iloc[[0, 1, 1]].assign(category_id=3), [3])
