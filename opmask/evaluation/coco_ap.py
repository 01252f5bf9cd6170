"""COCO evaluation, one pass a run: per-class AP and the matches that a bootstrap needs (§ 4.1).

The paper reports COCO's AP on subsets of the 80 classes. AP of a subset is the mean of its
per-class APs, so one `evaluate` feeds every table. The engine is hotcoco, whose precision array
equals that of pycocotools; `tests/test_evaluation.py` holds it to that. One known difference is
on purpose: pycocotools takes a match with ground truth of id 0 for no match at all, here it counts.

The engine gets ids 1 … N in place of the user's, of which it takes no negative ones, and of the
ground truth only what it needs (`opmask.data.cleaning`): its parser is stricter than Python's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import hotcoco
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from opmask.data.checks import check_records
from opmask.data.cleaning import clean
from opmask.data.records import load_json
from opmask.integrity import verified

Task = Literal["bbox", "segm"]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_SHAPE_KEY = {"bbox": "bbox", "segm": "segmentation"}
_REFERENCES = {"images": "image_id", "categories": "category_id"}  # to a record of which list


@dataclass(frozen=True)
class Matches:
    """Which detection of an image found an object, at area=all and at most 100 a class and image.

    D detections, in COCOeval's order of accumulation: by category, then by falling score; equal
    scores stay in ascending order of image id. G non-crowd objects, I images, K categories, T IoU
    thresholds.
    """

    image_ids: NDArray[np.int64]  # (I,) ascending
    category_ids: NDArray[np.int64]  # (K,) ascending
    iou_thresholds: NDArray[np.float64]  # (T,)
    image: NDArray[np.int32]  # (D,) index into image_ids
    category: NDArray[np.int32]  # (D,) index into category_ids
    score: NDArray[np.float64]  # (D,)
    matched: NDArray[np.bool_]  # (D, T) found an object or a crowd region
    ignored: NDArray[np.bool_]  # (D, T) lies in a crowd region: neither right nor wrong
    gt_image: NDArray[np.int32]  # (G,) index into image_ids
    gt_category: NDArray[np.int32]  # (G,) index into category_ids

    def save(self, path: Path) -> None:
        """Write one compressed npz without pickles."""
        np.savez_compressed(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises KeyError where the file lacks one of the arrays, UserError where it is damaged."""
        with np.load(verified(path), allow_pickle=False) as arrays:
            return cls(**{f.name: arrays[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation pass."""

    table: pd.DataFrame
    match: Callable[[], Matches]

    @cached_property
    def matches(self) -> Matches:
        """What the bootstrap needs. Made when asked for: it takes as long as the AP."""
        return self.match()

    def per_class(self) -> pd.DataFrame:
        """One row a category, by ascending id.

        Columns: category_id, category, task, instances (non-crowd objects), then AP, AP50, AP75,
        APs, APm, APl in percent; NaN where the category has no objects (of that area).
        """
        return self.table.copy()


def evaluate(
    ground_truth: Path | Mapping[str, Any], detections: Sequence[dict[str, Any]], *, task: Task
) -> Evaluation:
    """Evaluate one run by the protocol of COCOeval, all categories at once.

    Args:
        ground_truth: COCO json of the validation set, any that `opmask.data.coco.check` accepts for
            evaluation, or its content as `opmask.data.cleaning.clean` gives it. Ids of images and
            categories must fit 64 bits.
        detections: COCO results: image_id, category_id, score and, by task, `bbox` (xywh, pixels)
            or `segmentation` (RLE). May be empty; left as they are. For segm a `bbox` is not
            looked at: pycocotools would take the size class (s/m/l) from it and not from the mask.
        task: "bbox" or "segm".

    Raises:
        UserError: the ground truth file breaks the data contract, or lacks what `task` needs.
        ValueError: an unknown task, or a detection without a key, of an unknown image or category
            (COCOeval ignores the latter), or with a score of NaN.
    """
    if task not in _SHAPE_KEY:
        raise ValueError(f"task {task!r}: allowed are {', '.join(_SHAPE_KEY)}")
    if isinstance(ground_truth, Path):
        ground_truth = read_ground_truth(ground_truth, task)
    dataset, ranks = _ranked(ground_truth), {k: _ranks(ground_truth[k]) for k in _REFERENCES}
    found = _found(ranks, detections, task)
    coco = hotcoco.COCO(dataset)
    engine = hotcoco.COCOeval(coco, coco.load_res(_results(found)), task)
    engine.evaluate()
    engine.accumulate()
    assert engine.eval is not None  # since `accumulate`
    precision = engine.eval["precision"][..., -1]  # (T, 101 recalls, K, 4 areas), 100 detections
    thresholds = np.asarray(engine.params.iou_thrs)
    table = _table(ground_truth, task, _class_metrics(precision, thresholds))
    return Evaluation(table, partial(_matches, engine, dataset, ground_truth, found))


def subset_summary(per_class: pd.DataFrame, category_ids: Iterable[int]) -> dict[str, float]:
    """COCOeval's summary over some categories, in percent: the mean of those that have objects.

    Args:
        per_class: table of one run and one task, as `Evaluation.per_class` gives it.
        category_ids: dataset ids of the subset. An empty mean is NaN.

    Raises:
        ValueError: a category has no row, or several (tables of two runs or tasks in one).
    """
    wanted = list(dict.fromkeys(category_ids))
    rows = per_class[per_class["category_id"].isin(wanted)]
    if sorted(rows["category_id"]) != sorted(wanted):
        counts = rows["category_id"].value_counts()
        wrong = [c for c in wanted if counts.get(c, 0) != 1]
        raise ValueError(f"per-class table: category ids {wrong} need exactly one row each")
    return {metric: float(rows[metric].mean(skipna=True)) for metric in METRICS}


def read_ground_truth(path: Path, task: Task = "segm") -> dict[str, Any]:
    """What `evaluate` takes in place of the file `path`, so that two tasks read it once.

    Raises:
        UserError: it breaks the data contract, or lacks what `task` needs; segm needs all.
    """
    data = load_json(path)
    needs = [key for key in ("area", _SHAPE_KEY[task]) if key != "bbox"]
    check_records(data, path, on_degenerate="skip", needs=needs)
    return clean(data)


def _ranks(records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """1 … N by id, in ascending order: what COCOeval does by the order of ids stays as it is."""
    return {number: n for n, number in enumerate(sorted(r["id"] for r in records), start=1)}


def _ranked(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A cleaned json with ranks for ids."""
    ranks = {key: _ranks(dataset[key]) for key in ("images", "categories", "annotations")}
    ranked = {key: [r | {"id": ranks[key][r["id"]]} for r in dataset[key]] for key in ranks}
    for annotation in ranked["annotations"]:
        for key, reference in _REFERENCES.items():
            annotation[reference] = ranks[key][annotation[reference]]
    return ranked


@dataclass(frozen=True)
class _Found:
    """Detections in columns of length N, as they were given."""

    image: NDArray[np.int64]  # rank
    category: NDArray[np.int64]  # rank
    score: NDArray[np.float64]
    shapes: list[Any]
    task: Task


def _found(
    ranks: Mapping[str, Mapping[int, int]], detections: Sequence[dict[str, Any]], task: Task
) -> _Found:
    key = _SHAPE_KEY[task]
    columns: dict[str, list[Any]] = {}
    for name in ("image_id", "category_id", key, "score"):
        columns[name] = values = [detection.get(name) for detection in detections]
        if None in values:
            n = values.index(None)
            raise ValueError(f"detections[{n}]: no {name!r}, which a {task} evaluation needs")
    for section, name in _REFERENCES.items():
        known = ranks[section]
        if unknown := set(columns[name]) - known.keys():
            n = next(n for n, value in enumerate(columns[name]) if value in unknown)
            raise ValueError(f"detections[{n}]: {name} {columns[name][n]} not in ground truth")
        columns[name] = [known[value] for value in columns[name]]
    scores = np.array(columns["score"], dtype=np.float64)
    if np.isnan(scores).any():
        n = int(np.isnan(scores).argmax())
        raise ValueError(f"detections[{n}]: score is NaN, which has no rank")
    image, category = (np.array(columns[name], np.int64) for name in _REFERENCES.values())
    return _Found(image, category, scores, columns[key], task)


def _results(found: _Found) -> NDArray[np.float64] | list[dict[str, Any]]:
    """What the engine takes: an array of boxes; masks in dicts, so that areas are theirs."""
    if found.task == "bbox":
        boxes = np.array(found.shapes, np.float64).reshape(-1, 4)
        return np.column_stack([found.image, boxes, found.score, found.category])
    columns = (found.image.tolist(), found.category.tolist(), found.shapes, found.score.tolist())
    names = ("image_id", "category_id", "segmentation", "score")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _class_metrics(
    precision: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """METRICS of each class, (K,) in percent, from precision (T, R, K, 4), -1 where undefined."""
    percent = np.where(precision < 0, np.nan, 100 * precision)
    at50, at75 = (int(np.argmin(np.abs(thresholds - t))) for t in (0.5, 0.75))
    averages = (
        percent[..., 0].mean(axis=(0, 1)),
        percent[at50, ..., 0].mean(axis=0),
        percent[at75, ..., 0].mean(axis=0),
        *(percent[..., area].mean(axis=(0, 1)) for area in (1, 2, 3)),
    )
    return dict(zip(METRICS, averages, strict=True))


def _objects(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [a for a in dataset["annotations"] if not a.get("iscrowd", 0)]


def _table(
    dataset: Mapping[str, Any], task: Task, metrics: dict[str, NDArray[np.float64]]
) -> pd.DataFrame:
    categories = sorted(dataset["categories"], key=lambda category: category["id"])
    ids = pd.Index([category["id"] for category in categories], dtype=np.int64)
    instances = pd.Series([a["category_id"] for a in _objects(dataset)], dtype=np.int64)
    return pd.DataFrame(
        {
            "category_id": ids,
            "category": [category["name"] for category in categories],
            "task": task,
            "instances": instances.value_counts().reindex(ids, fill_value=0).to_numpy(),
            **metrics,
        }
    )


def _matches(
    engine: hotcoco.COCOeval, ranked: Mapping[str, Any], dataset: Mapping[str, Any], found: _Found
) -> Matches:
    """Match again category by category, areas pooled.

    hotcoco's matches are Python lists, which take gigabytes for all at once and most of the time:
    so only images with an object of the category are asked for. In others nothing can be found.
    """
    images = np.sort(np.array([image["id"] for image in dataset["images"]], dtype=np.int64))
    categories = np.sort(np.array([c["id"] for c in dataset["categories"]], dtype=np.int64))
    params = engine.params
    order, key = _best(found, len(images), max(params.max_dets))
    matched = np.zeros((len(order), len(params.iou_thrs)), np.bool_)
    ignored = np.repeat(_outside(found, *params.area_rng[0])[order, None], matched.shape[1], 1)
    params.area_rng, params.area_rng_lbl = [params.area_rng[0]], ["all"]
    for rank, having in _images_by_category(ranked).items():
        params.cat_ids, params.img_ids = [rank], having
        engine.evaluate()
        for entry in filter(None, engine.eval_imgs):
            start = int(np.searchsorted(key, rank * (len(images) + 1) + entry["image_id"]))
            rows = slice(start, start + len(entry["dtScores"]))
            matched[rows] = np.array(entry["dtMatched"], np.bool_).T
            ignored[rows] = np.array(entry["dtIgnore"], np.bool_).T
    as_accumulated = np.lexsort((-found.score[order], found.category[order]))
    order = order[as_accumulated]
    objects = _objects(dataset)
    gt_image = np.array([a["image_id"] for a in objects], dtype=np.int64)
    gt_category = np.array([a["category_id"] for a in objects], dtype=np.int64)
    return Matches(
        image_ids=images,
        category_ids=categories,
        iou_thresholds=np.asarray(params.iou_thrs),
        image=(found.image[order] - 1).astype(np.int32),
        category=(found.category[order] - 1).astype(np.int32),
        score=found.score[order],
        matched=matched[as_accumulated],
        ignored=ignored[as_accumulated],
        gt_image=np.searchsorted(images, gt_image).astype(np.int32),
        gt_category=np.searchsorted(categories, gt_category).astype(np.int32),
    )


def _best(found: _Found, images: int, most: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Indices of the `most` best detections of each category and image, in this order and by
    falling score as COCOeval sorts them, and a number for the category and image of each."""
    order = np.lexsort((-found.score, found.image, found.category))
    key = found.category[order] * (images + 1) + found.image[order]
    kept = np.arange(len(key)) - np.searchsorted(key, key) < most
    return order[kept], key[kept]


def _outside(found: _Found, low: float, high: float) -> NDArray[np.bool_]:
    """Which have an area that COCOeval ignores; no mask does, as large as an image may be."""
    if found.task == "segm":
        return np.zeros(len(found.score), np.bool_)
    width, height = np.array(found.shapes, np.float64).reshape(-1, 4).T[2:]
    return (width * height < low) | (width * height > high)


def _images_by_category(ranked: Mapping[str, Any]) -> dict[int, list[int]]:
    """Images with an object, crowds included, by category: all in ranks."""
    found: dict[int, set[int]] = defaultdict(set)
    for annotation in ranked["annotations"]:
        found[annotation["category_id"]].add(annotation["image_id"])
    return {category: sorted(images) for category, images in found.items()}
