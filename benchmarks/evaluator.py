"""One per-class evaluation that feeds every split, against pycocotools once a split; the bootstrap.

Synthetic: 2,000 images of 640 x 480, 80 classes, 7 objects an image, 73,000 detections, masks that
are ellipses. pycocotools restricts itself to the classes of a split, so that the splits voc,
nonvoc and all take three runs of it; both must agree on all six summary numbers of each.
"""

import contextlib
import io
import json
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks import timing
from opmask.data.splits import COCO_CLASSES, resolve
from opmask.evaluation.bootstrap import paired_differences
from opmask.evaluation.coco_ap import Task, evaluate, subset_summary

IMAGES, OBJECTS, DETECTIONS = 2000, 14_600, 73_000
HEIGHT, WIDTH = 480, 640
# Table 1 compares two runs on the classes outside `voc`, and two on those outside `nonvoc`.
COMPARISONS = {"novel, both directions": ("nonvoc", "voc"), "all": ("all",)}
RESAMPLES = 1000
CATEGORIES = [{"id": k, "name": name} for k, name in enumerate(COCO_CLASSES, 1)]


def splits() -> dict[str, list[int]]:
    """Category ids of voc, nonvoc and all."""
    found = {}
    for name in ("voc", "nonvoc", "all"):
        supervised = resolve(name, CATEGORIES).supervised
        found[name] = [c["id"] for c in CATEGORIES if c["name"] in supervised]
    return found


def synthetic(
    images: int = IMAGES, objects: int = OBJECTS, detections: int = DETECTIONS, run: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO json's content, and a run's detections, a third near an object of their class.

    The objects are the same whatever the `run`.
    """
    rng = np.random.default_rng(0)
    image, category = rng.integers(1, images + 1, objects), _categories(rng, objects)
    boxes = _boxes(rng, objects)
    annotations = _entries(image, category, boxes)
    for number, (entry, box) in enumerate(zip(annotations, boxes.tolist(), strict=True), start=1):
        area = int(mask_util.area(entry["segmentation"]))
        entry |= {"id": number, "bbox": box, "iscrowd": 0, "area": area}
    rng = np.random.default_rng([1, run])
    source, near = rng.integers(0, objects, detections), rng.random(detections) < 1 / 3
    moved = boxes[source] + rng.normal(0, 0.08, (detections, 4)) * np.tile(boxes[source, 2:], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], 4)
    found = np.where(near[:, None], moved, _boxes(rng, detections))
    classes = np.where(near, category[source], _categories(rng, detections))
    scores = np.where(near, rng.beta(4, 2, detections), rng.beta(1, 4, detections))
    results = _entries(image[source], classes, found)
    for entry, score in zip(results, scores.tolist(), strict=True):
        entry["score"] = score
    size = {"file_name": "", "height": HEIGHT, "width": WIDTH}
    sizes = [{"id": i, **size} for i in range(1, images + 1)]
    return {"images": sizes, "annotations": annotations, "categories": CATEGORIES}, results


def _categories(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """A few common classes and many rare ones, as in COCO."""
    weight = 1 / np.arange(2, len(CATEGORIES) + 2)
    return 1 + rng.choice(len(CATEGORIES), count, p=weight / weight.sum())


def _boxes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """xywh in pixels, most of them small."""
    side = np.exp(rng.uniform(np.log(10), np.log(320), (count, 2)))
    return np.hstack([rng.uniform(0, 1, (count, 2)) * ([WIDTH, HEIGHT] - side), side])


def _entries(image: NDArray, category: NDArray, boxes: NDArray[np.float64]) -> list[dict[str, Any]]:
    """COCO entries whose masks are ellipses in the boxes; without `bbox`, for both evaluators."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    polygons = boxes[:, None, :2] + circle * boxes[:, None, 2:]
    polygons = polygons.clip(0, [WIDTH, HEIGHT]).reshape(len(boxes), -1)
    rles = mask_util.frPyObjects(polygons.tolist(), HEIGHT, WIDTH)
    return [
        {"image_id": i, "category_id": c, "segmentation": {**r, "counts": r["counts"].decode()}}
        for i, c, r in zip(image.tolist(), category.tolist(), rles, strict=True)
    ]


def ours(path: Path, detections: Sequence[dict[str, Any]], task: Task) -> dict[str, list[float]]:
    """Summary of every split from one evaluation."""
    table = evaluate(path, detections, task=task).per_class()
    return {name: list(subset_summary(table, ids).values()) for name, ids in splits().items()}


def theirs(path: Path, detections: Sequence[dict[str, Any]], task: Task) -> dict[str, list[float]]:
    """Summary of every split from a run of COCOeval each; files are read and indexed once."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        found = truth.loadRes([dict(d) for d in detections])
        summaries = {}
        for name, ids in splits().items():
            evaluator = COCOeval(truth, found, task)
            evaluator.params.catIds = ids
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            summaries[name] = np.where(evaluator.stats < 0, np.nan, 100 * evaluator.stats)[:6]
    return {name: values.tolist() for name, values in summaries.items()}


def compare(found: Mapping[str, Sequence[float]], wanted: Mapping[str, Sequence[float]]) -> float:
    """The largest difference of two results, in percentage points. ValueError if it matters."""
    gaps = {name: np.abs(np.subtract(found[name], wanted[name])).max() for name in wanted}
    for split, gap in gaps.items():
        if not gap < 1e-6:
            raise ValueError(f"evaluators differ on {split}: by {gap}")
    return max(gaps.values())


def measure(options: Namespace) -> pd.DataFrame:
    """One row: seconds of both, and their ratio."""
    truth, detections = synthetic()
    repeats = options.repeats or 3
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "instances.json")).write_text(json.dumps(truth))
        both = (partial(of, path, detections, "segm") for of in (ours, theirs))
        found, wanted, row = timing.against("pycocotools", *both, repeats)
    about = {"task": "segm", "images": IMAGES, "detections": len(detections), **row}
    gap = compare(found, wanted)
    return pd.DataFrame([{**about, "largest_difference": gap, "repeats": repeats}])


def bootstrap(options: Namespace) -> pd.DataFrame:
    """One row a set of comparisons of two runs, of the size of val2017."""
    sizes = {"images": 5000, "objects": 36_335, "detections": 182_500}
    ids, repeats = splits(), options.repeats or 3
    with tempfile.TemporaryDirectory() as folder:
        path, runs = Path(folder, "instances.json"), []
        for run in (1, 2):
            truth, detections = synthetic(**sizes, run=run)
            path.write_text(json.dumps(truth))
            runs.append(evaluate(path, detections, task="segm").matches)

    def compare(names: Sequence[str]) -> None:
        for name in names:
            paired_differences(runs[:1], runs[1:], ids[name], resamples=RESAMPLES)

    actions = {label: partial(compare, names) for label, names in COMPARISONS.items()}
    seconds = timing.interleaved(actions, repeats, "bootstrap")
    rows = [{"classes": k, **seconds.median(k), "resamples": RESAMPLES} for k in actions]
    return pd.DataFrame(rows).assign(**sizes, repeats=repeats)
