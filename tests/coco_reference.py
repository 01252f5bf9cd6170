"""Random COCO data and pycocotools' answer to it: the reference of the evaluation tests."""

import contextlib
import copy
import io
import json

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 200  # pixels
AREAS = ["all", "small", "medium", "large"]
# Multiples of 5 from a short list, so that equal boxes and IoUs on a threshold are common.
BOXES = [
    [float(x), float(y), float(w), float(h)]
    for x, y in ((0, 0), (0, 10), (20, 0), (60, 60))
    for w, h in ((20, 20), (20, 15), (50, 60), (55, 60), (120, 110), (120, 100))
]
CATEGORIES = [3, 7, 1, 12]  # ids as in COCO: with gaps; not sorted either


def rectangle(box: list[float]) -> dict:
    """RLE of an axis-parallel box (x, y, w, h) in an image of SIDE × SIDE pixels."""
    x, y, w, h = (int(v) for v in box)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    rle = mask_api.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def make_ground_truth(image_ids: list[int], objects: list[tuple]) -> dict:
    """COCO dict of objects (image id, category id, box, iscrowd)."""
    annotations = [
        {
            "id": n,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": crowd,
            "segmentation": rectangle(box),
        }
        for n, (image, category, box, crowd) in enumerate(objects, start=1)
    ]
    return {
        "images": [{"id": i, "width": SIDE, "height": SIDE, "file_name": ""} for i in image_ids],
        "categories": [{"id": c, "name": f"class {c}"} for c in CATEGORIES],
        "annotations": annotations,
    }


@st.composite
def datasets(draw, distinct_scores: bool = False) -> tuple[dict, list[dict]]:
    """(ground truth, detections) with crowds, ties, empty images and empty classes.

    distinct_scores: no ties within an image, though still between images.
    """
    image_ids = draw(st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True))
    place = (st.sampled_from(image_ids), st.sampled_from(CATEGORIES[:3]), st.sampled_from(BOXES))
    objects = draw(st.lists(st.tuples(*place, st.sampled_from([0, 0, 0, 1])), max_size=10))
    shots = draw(st.lists(st.tuples(*place), max_size=14))
    scores = draw(st.permutations(range(14))) if distinct_scores else None
    detections = []
    for n, (image, category, box) in enumerate(shots):
        if distinct_scores:
            rank = scores[sum(d["image_id"] == image for d in detections)]
        else:
            rank = draw(st.integers(0, 3), label=f"score {n}")
        detections.append(
            {"image_id": image, "category_id": category, "bbox": box, "score": rank / 16}
        )
    return make_ground_truth(image_ids, objects), detections


def as_segm(detections: list[dict]) -> list[dict]:
    """The boxes as masks, without `bbox`: with it pycocotools takes areas from the box."""
    return [
        {k: v for k, v in d.items() if k != "bbox"} | {"segmentation": rectangle(d["bbox"])}
        for d in detections
    ]


def pycocotools_eval(ground_truth: dict, detections: list[dict], task: str, category_ids=None):
    """An accumulated COCOeval. Inputs are copied, since pycocotools writes into them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        results = copy.deepcopy(ground_truth) | {"annotations": []}
        if detections:
            found = truth.loadRes(copy.deepcopy(detections))
        else:  # loadRes cannot
            found = COCO()
            found.dataset = results
            found.createIndex()
        evaluator = COCOeval(truth, found, task)
        if category_ids is not None:
            evaluator.params.catIds = sorted(category_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def metrics_of(precision: np.ndarray) -> list[float]:
    """AP, AP50, AP75, APs, APm, APl in percent from precision (T, R, K, 4); NaN if undefined."""

    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return 100 * float(values.mean()) if values.size else np.nan

    whole = precision[..., 0]
    by_area = [mean(precision[..., a]) for a in range(1, len(AREAS))]
    return [mean(whole), mean(whole[0]), mean(whole[5]), *by_area]


def write(path, ground_truth: dict):
    """Write the json and return its path."""
    path.write_text(json.dumps(ground_truth))
    return path
