"""The weighted AP is COCOeval on duplicated images; the interval is right in a known case."""

import copy

import numpy as np
import pytest
from coco_reference import (
    BOXES,
    CATEGORIES,
    datasets,
    make_ground_truth,
    metrics_of,
    pycocotools_eval,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from resampled import ap, difference, interval, weighted_ap

from opmask.evaluation.bootstrap import data_and_draws, image_weights, spread
from opmask.evaluation.coco_ap import Matches, evaluate
from opmask.evaluation.weighted_ap import (
    METRICS,
    RECALLS,
    recalls_reached,
    weighted_metrics,
)

IDS = sorted(CATEGORIES)


@pytest.fixture(scope="module")
def match(tmp_path_factory):
    path = tmp_path_factory.mktemp("gt") / "instances.json"

    def run(ground_truth: dict, detections: list[dict]) -> Matches:
        return evaluate(write(path, ground_truth), detections, task="bbox").matches

    return run


def duplicated(ground_truth: dict, detections: list[dict], copies: dict[int, int]) -> list:
    """AP, AP50 and AP75, each of each class, by pycocotools, image i really there copies[i] times,
    under new ids."""

    def repeat(records: list[dict], key: str) -> list[dict]:
        return [
            copy.deepcopy(record) | {key: 100 * record[key] + n}
            for record in records
            for n in range(copies[record[key]])
        ]

    repeated = ground_truth | {
        "images": repeat(ground_truth["images"], "id"),
        "annotations": repeat(ground_truth["annotations"], "image_id"),
    }
    for n, annotation in enumerate(repeated["annotations"], start=1):
        annotation["id"] = n
    if not repeated["images"]:
        return [[np.nan] * len(IDS)] * 3
    reference = pycocotools_eval(repeated, repeat(detections, "image_id"), "bbox")
    precision = reference.eval["precision"][..., -1]
    by_class = [metrics_of(precision[:, :, [k]])[:3] for k in range(len(IDS))]
    return list(zip(*by_class, strict=True))


@given(data=datasets())
@settings(max_examples=30, deadline=None)
def test_unit_weights_give_the_ap_of_the_evaluation(tmp_path_factory, data):
    ground_truth, detections = data
    path = write(tmp_path_factory.getbasetemp() / "unit.json", ground_truth)
    result = evaluate(path, detections, task="bbox")
    weights = np.ones((2, len(ground_truth["images"])))
    found, table = weighted_metrics(result.matches, weights), result.per_class()
    for metric, values in zip(METRICS, found, strict=True):
        np.testing.assert_allclose(values, [table[metric]] * 2, atol=1e-9)


@given(data=datasets(distinct_scores=True), draw=st.data())
@settings(max_examples=60, deadline=None)
def test_whole_weights_equal_duplicated_images(match, data, draw):
    ground_truth, detections = data
    matches = match(ground_truth, detections)
    n = len(matches.image_ids)
    weights = draw.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    copies = dict(zip(matches.image_ids.tolist(), weights, strict=True))
    expected = duplicated(ground_truth, detections, copies)
    np.testing.assert_allclose(weighted_metrics(matches, [weights])[:, 0], expected, atol=1e-9)
    # Precision and recall are ratios: a common factor, whole or not, changes nothing.
    scaled = weighted_metrics(matches, np.array([weights]) * 0.25)
    np.testing.assert_allclose(scaled[:, 0], expected, atol=1e-9)


def test_by_hand():
    """Image 0: object found at .9. Image 1: false positive at .95, object found at .5.

    Both: the best of all lies in a crowd region, which counts neither way.
    """
    matches = Matches(
        image_ids=np.array([10, 20]),
        category_ids=np.array([1, 2]),
        iou_thresholds=np.array([0.5]),
        image=np.array([0, 1, 1, 0, 1]),
        category=np.zeros(5, int),
        score=np.array([0.99, 0.98, 0.95, 0.9, 0.5]),
        matched=np.array([[True], [True], [False], [True], [True]]),
        ignored=np.array([[True], [True], [False], [False], [False]]),
        gt_image=np.array([0, 1]),
        gt_category=np.zeros(2, int),
    )
    ap = weighted_ap(matches, [[1, 1], [2, 1], [1, 0], [0, 1], [0, 0]])
    # (1, 1): precision 1/2 then 2/3, so 2/3 throughout; (2, 1): 2/3 then 3/4.
    np.testing.assert_allclose(ap[:, 0], [200 / 3, 75, 100, 50, np.nan])
    assert np.isnan(ap[:, 1]).all()
    np.testing.assert_array_equal(weighted_ap(matches, [[1, 1]], [2, 1]), ap[:1, ::-1])
    _, at50, at75 = weighted_metrics(matches, [[1, 1]])
    assert at50[0, 0] == ap[0, 0] and np.isnan(at75).all()  # .75 was not measured


def test_metrics_are_those_of_their_thresholds():
    """Four objects in one image; the detections are right at 4, 3, 2 and 1 of the thresholds."""
    thresholds = np.array([0.5, 0.7, 0.75, 0.8])
    zeros = np.zeros(4, int)
    matches = Matches(
        image_ids=np.array([1]),
        category_ids=np.array([1]),
        iou_thresholds=thresholds,
        image=zeros,
        category=zeros,
        score=np.array([0.9, 0.8, 0.7, 0.6]),
        matched=np.tri(4, dtype=bool).T[:, ::-1],
        ignored=np.zeros((4, 4), bool),
        gt_image=zeros,
        gt_category=zeros,
    )
    recalls = [101, 76, 51, 26]  # at or below 4/4, 3/4, 2/4, 1/4, by threshold; precision is 1
    ap, at50, at75 = weighted_metrics(matches, [[1]])[:, 0, 0] * 1.01
    assert (at50, at75, ap) == pytest.approx((recalls[0], recalls[2], np.mean(recalls)))


def test_large_runs_are_split_without_a_seam(monkeypatch):
    matches = simulate(np.random.default_rng(0))[0]
    weights = image_weights(len(matches.image_ids), 7, seed=0)
    whole = weighted_ap(matches, weights)
    monkeypatch.setattr("opmask.evaluation.weighted_ap._CHUNK_ELEMENTS", 60)
    np.testing.assert_allclose(weighted_ap(matches, weights), whole, atol=1e-9)


@given(st.integers(1, 5000), st.data())
def test_a_recall_counts_from_exactly_where_coco_counts_it(objects, data):
    """0.57 is not 57 / 100 in floating point: rounding must fall as in COCOeval's comparison."""
    found = np.array(data.draw(st.lists(st.integers(0, objects), min_size=1)))
    expected = [(n / objects >= RECALLS).sum() for n in found]
    np.testing.assert_array_equal(recalls_reached(found / objects), expected)


def test_every_hundredth_is_a_recall():
    hundredths = np.arange(101) / 100
    around = np.concatenate([hundredths, np.nextafter(hundredths, 0), np.nextafter(hundredths, 1)])
    expected = np.searchsorted(RECALLS, around, side="right")
    np.testing.assert_array_equal(recalls_reached(around), expected)


def test_image_weights_are_draws_with_replacement():
    weights = image_weights(50, 4000, seed=3)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)
    np.testing.assert_array_equal(weights, image_weights(50, 4000, seed=3))
    assert (weights != image_weights(50, 4000, seed=4)).any()


def scenes(seed: int, found: float) -> tuple[dict, list[dict]]:
    """Five images of objects, of which a share `found` is detected, and false positives."""
    rng = np.random.default_rng(seed)
    where = np.random.default_rng(0)  # the same objects for all
    objects = [
        (int(i), int(where.choice(IDS[:3])), BOXES[where.integers(12)], 0)
        for i in np.repeat([1, 2, 3, 4, 5], 4)
    ]
    shots = [o[:3] for o in objects if rng.random() < found]
    shots += [(i, int(rng.choice(IDS)), BOXES[-1]) for i in (1, 2, 3, 4, 5)]
    scores = rng.permutation(len(shots)) / 32
    return make_ground_truth([1, 2, 3, 4, 5], objects), [
        {"image_id": i, "category_id": c, "bbox": b, "score": float(s)}
        for (i, c, b), s in zip(shots, scores, strict=True)
    ]


def test_paired_difference_equals_a_naive_bootstrap(match):
    method_a, method_b = [scenes(1, 0.9), scenes(2, 0.9)], [scenes(3, 0.4)]
    subset, resamples = [IDS[0], IDS[2], IDS[3]], 8  # the last has no objects
    columns = [IDS.index(c) for c in subset]

    def naive(runs, copies):
        per_class = np.mean([duplicated(*run, copies) for run in runs], axis=0)[:, columns]
        return np.nanmean(per_class, axis=1)  # of AP, AP50, AP75

    weights = image_weights(5, resamples, seed=7).astype(int)
    each = [dict(zip([1, 2, 3, 4, 5], row, strict=True)) for row in weights.tolist()]
    draws = np.array([naive(method_a, c) - naive(method_b, c) for c in each])
    once = dict.fromkeys([1, 2, 3, 4, 5], 1)
    mean_a, mean_b = naive(method_a, once), naive(method_b, once)

    a, b = ([match(*run) for run in runs] for runs in (method_a, method_b))
    bootstrap = {"resamples": resamples, "seed": 7}
    low, high = mean_a - mean_b + np.quantile(draws - draws.mean(axis=0), [0.025, 0.975], axis=0)
    for n, metric in enumerate(METRICS):
        one = difference(a, b, subset, metric=metric, **bootstrap)
        expected = mean_a[n] - mean_b[n], low[n], high[n]
        np.testing.assert_allclose((one.value, one.low, one.high), expected, atol=1e-9)
        means = [ap(runs, subset, metric=metric, **bootstrap).estimate().value for runs in (a, b)]
        assert means == pytest.approx([mean_a[n], mean_b[n]])

    alone = interval(a, subset, **bootstrap)
    assert alone.seeds == 2 and alone.low <= alone.value <= alone.high
    each = [naive([run], once)[0] for run in method_a]
    assert alone.sd == pytest.approx(np.std(each, ddof=1))
    same = difference(a, a[::-1], subset, **bootstrap)
    np.testing.assert_allclose((same.value, same.low, same.high), 0, atol=1e-9)
    nothing = difference(a, b, IDS[3:], **bootstrap)
    assert np.isnan([nothing.value, nothing.low, nothing.p]).all()


def simulate(rng, images=60, classes=12, found=(0.8, 0.7)) -> list[Matches]:
    """One data set from a known source and two detectors on it, whose errors go together."""
    thresholds = np.linspace(0.5, 0.95, 10)
    gt_image = np.repeat(np.arange(images), rng.poisson(4, images))
    gt_category = rng.integers(classes, size=len(gt_image))
    fp_image = np.repeat(np.arange(images), rng.poisson(3, images))
    fp_category = rng.integers(classes, size=len(fp_image))
    ease = rng.random(len(gt_image))
    runs = []
    for share in found:
        hit = rng.random(len(gt_image)) < share
        iou = share * (0.9 * ease + 0.3 * rng.random(len(ease)))[hit]
        misses = np.zeros((len(fp_image), 10), bool)
        score = np.r_[rng.beta(3, 2, hit.sum()), rng.beta(2, 3, len(fp_image))]
        category = np.r_[gt_category[hit], fp_category]
        order = np.lexsort((-score, category))
        runs.append(
            Matches(
                image_ids=np.arange(images),
                category_ids=np.arange(classes),
                iou_thresholds=thresholds,
                image=np.r_[gt_image[hit], fp_image][order],
                category=category[order],
                score=score[order],
                matched=np.vstack([iou[:, None] >= thresholds, misses])[order],
                ignored=np.zeros((len(order), 10), bool),
                gt_image=gt_image,
                gt_category=gt_category,
            )
        )
    return runs


@pytest.mark.slow
def test_errors_and_coverage_where_the_truth_is_known():
    """Standard errors within 15 % of the sd over 300 new data sets; 95 % intervals cover ≥ 88 %.

    At 80 trials and a true coverage of 95 %, 88 % is 2.9 standard deviations away.
    """
    rng = np.random.default_rng(1)
    classes = range(12)
    worlds = np.array(
        [[np.nanmean(weighted_ap(m, np.ones((1, 60)))) for m in simulate(rng)] for _ in range(300)]
    )
    truth = {"own": worlds[:, 0], "difference": worlds[:, 0] - worlds[:, 1]}
    found = {"own": [], "difference": []}
    for trial in range(80):
        weights = data_and_draws(60, 120, seed=trial)
        a, b = (np.nanmean(weighted_ap(m, weights, classes), axis=1) for m in simulate(rng))
        found["own"].append(a)
        found["difference"].append(a - b)
    for name, draws in found.items():
        sd, target = truth[name].std(ddof=1), truth[name].mean()
        assert np.mean([d[1:].std(ddof=1) for d in draws]) == pytest.approx(sd, rel=0.15)
        intervals = [spread(d) for d in draws]
        assert np.mean([low <= target <= high for low, high in intervals]) >= 0.88


def test_what_cannot_be_compared_is_refused(match):
    a = match(*scenes(1, 0.9))
    with pytest.raises(ValueError, match=r"unknown \[99\]"):
        weighted_ap(a, np.ones((1, 5)), [1, 99])
    with pytest.raises(KeyError, match="99"):
        interval([a], [1, 99], resamples=2, seed=0)
    for weights in (np.ones(5), np.ones((1, 4)), -np.ones((1, 5))):
        with pytest.raises(ValueError, match="5 images"):
            weighted_ap(a, weights)
