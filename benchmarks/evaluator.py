"""One per-class evaluation that feeds every split, against pycocotools once a split; the bootstrap.

Synthetic: 80 classes, 7 objects an image of 640 x 480, five times as many detections, masks that
are ellipses. pycocotools restricts itself to the classes of a split, so that the splits voc,
nonvoc and all take three runs of it; both must agree on all six summary numbers of each.
"""

import contextlib
import io
import json
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks import timing
from opmask.data.splits import COCO_CLASSES, resolve
from opmask.evaluation.bootstrap import data_and_draws, spread
from opmask.evaluation.coco_ap import METRICS, evaluate, subset_summary
from opmask.evaluation.weighted_ap import weighted_metrics

HEIGHT, WIDTH, RESAMPLES = 480, 640, 1000
CATEGORIES = [{"id": k, "name": name} for k, name in enumerate(COCO_CLASSES, 1)]
SPLITS = {
    name: [1 + COCO_CLASSES.index(c) for c in resolve(name, CATEGORIES).supervised]
    for name in ("voc", "nonvoc", "all")
}
# Table 1 compares two runs on the classes outside `voc`, and two on those outside `nonvoc`.
COMPARISONS = {"novel, both directions": ("nonvoc", "voc"), "all": ("all",)}
XYWH = ["x", "y", "w", "h"]


def evaluator(options: Namespace) -> pd.DataFrame:
    """One AP evaluation for all splits, against pycocotools; AssertionError if they differ."""
    sizes, repeats = {"images": 2000, "objects": 14_600, "detections": 73_000}, options.repeats or 3
    truth, detections = synthetic(**sizes)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "instances.json")).write_text(json.dumps(truth))
        ways = {"ours": ours, "pycocotools": theirs}
        actions = {name: partial(way, path, detections) for name, way in ways.items()}
        np.testing.assert_allclose(ours(path, detections), theirs(path, detections), atol=1e-6)
        rows = timing.interleaved(actions, repeats)
    return rows.reset_index().assign(task="segm", **sizes, repeats=repeats)


def bootstrap(options: Namespace) -> pd.DataFrame:
    """Paired bootstrap over images, of two runs on as many as val2017 has."""
    sizes = {"images": 5000, "objects": 36_335, "detections": 182_500}
    runs = []
    for run in (1, 2):
        truth, detections = synthetic(**sizes, run=run)
        runs.append(evaluate(truth, detections, task="segm").matches)

    def compare(names: Sequence[str]) -> None:
        for name in names:
            weights = data_and_draws(sizes["images"], RESAMPLES, seed=0)
            aps = [weighted_metrics(run, weights, SPLITS[name]) for run in runs]
            spread(np.nanmean(aps[0] - aps[1], axis=-1)[0])

    actions = {label: partial(compare, names) for label, names in COMPARISONS.items()}
    repeats = options.repeats or 3
    rows = timing.interleaved(actions, repeats, label="classes")
    return rows.reset_index().assign(resamples=RESAMPLES, **sizes, repeats=repeats)


def ours(path: Path, detections: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Summary of every split (a column) from one evaluation."""
    table = evaluate(path, detections, task="segm").per_class()
    return pd.DataFrame({name: subset_summary(table, ids) for name, ids in SPLITS.items()})


def theirs(path: Path, detections: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Summary of every split from a run of COCOeval each; files are read and indexed once."""
    summaries = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        found = truth.loadRes([dict(d) for d in detections])
        for name, ids in SPLITS.items():
            engine = COCOeval(truth, found, "segm")
            engine.params.catIds = ids
            engine.evaluate()
            engine.accumulate()
            engine.summarize()
            summaries[name] = np.where(engine.stats < 0, np.nan, 100 * engine.stats)[:6]
    return pd.DataFrame(summaries, index=list(METRICS))


def synthetic(
    images: int, objects: int, detections: int, run: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO json's content, and a run's detections, a third near an object of their class.

    The objects are the same whatever the `run`.
    """
    truth = _scattered(np.random.default_rng(0), images, objects)
    annotations = _entries(truth)
    for number, (entry, box) in enumerate(zip(annotations, truth[XYWH].to_numpy(), strict=True), 1):
        area = int(mask_util.area(entry["segmentation"]))
        entry |= {"id": number, "bbox": box.tolist(), "iscrowd": 0, "area": area}
    rng = np.random.default_rng([1, run])
    near = truth.sample(detections // 3, replace=True, random_state=rng)
    near[XYWH] += rng.normal(0, 0.08, near[XYWH].shape) * near[["w", "h", "w", "h"]].to_numpy()
    near[["w", "h"]] = near[["w", "h"]].clip(lower=4)
    far = _scattered(rng, images, detections - len(near))
    scores = np.concatenate([rng.beta(4, 2, len(near)), rng.beta(1, 4, len(far))]).tolist()
    results = _entries(pd.concat([near, far]))
    size = {"file_name": "", "height": HEIGHT, "width": WIDTH}
    sizes = [{"id": i, **size} for i in range(1, images + 1)]
    content = {"images": sizes, "annotations": annotations, "categories": CATEGORIES}
    return content, [{**r, "score": score} for r, score in zip(results, scores, strict=True)]


def _scattered(rng: np.random.Generator, images: int, count: int) -> pd.DataFrame:
    """Boxes in pixels, most of them small; a few common classes and many rare ones, as in COCO."""
    weight = 1 / np.arange(2, len(CATEGORIES) + 2)
    side = np.exp(rng.uniform(np.log(10), np.log(320), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - side)
    return pd.DataFrame(np.hstack([corner, side]), columns=XYWH).assign(
        image_id=rng.integers(1, images + 1, count),
        category_id=1 + rng.choice(len(CATEGORIES), count, p=weight / weight.sum()),
    )


def _entries(objects: pd.DataFrame) -> list[dict[str, Any]]:
    """COCO entries whose masks are ellipses in the boxes; without `bbox`, for both evaluators."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    corner, side = np.split(objects[XYWH].to_numpy()[:, None], 2, axis=2)
    polygons = (corner + circle * side).clip(0, [WIDTH, HEIGHT]).reshape(len(objects), -1)
    entries = objects[["image_id", "category_id"]].to_dict("records")
    rles = mask_util.frPyObjects(polygons.tolist(), HEIGHT, WIDTH)
    for entry, rle in zip(entries, rles, strict=True):
        entry["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    return entries
