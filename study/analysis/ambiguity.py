"""How ambiguous each region of interest is, and how well a run segments it (section 4.2).

The paper explains its gain by ambiguous RoIs, "where pixels of one instance appear in the bounding
box of the other", and shows examples but no measurement. Here it is measured. The *ambiguity* of an
instance is the share of its ground-truth box's pixels that other annotated instances cover with
their masks, or with their boxes where they have no mask.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from scipy import ndimage

from opmask.evaluation.coco_ap import evaluate, subset_summary
from study.spec.run import Run

BOX_IOU = 0.5  # a detection found an instance of its class from here on, as in AP50 of boxes
MEASURES = ("mask_iou", "coverage", "confusion", "perforation")
IN_TRUE_BOX = "oracle_iou"
COLUMNS = ["run", "method", "backbone", "supervised", "schedule", "seed", "image_id",
           "annotation_id", "category_id", "category", "supervision", "area", "x", "y", "width",
           "height", "ambiguity", "ambiguous", "detection", "score", *MEASURES,
           IN_TRUE_BOX]  # fmt: skip

Rle = dict[str, Any]


def read_objects(data: Mapping[str, Any]) -> pd.DataFrame:
    """The annotated instances with a mask of a cleaned COCO json, crowds left out, by image.

    Columns: image_id, annotation_id, category_id, area (of the mask), x, y, width, height (of the
    box), ambiguity in [0, 1], and as RLE mask and rivals: what in its box belongs to other
    instances and not to itself.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    rows = []
    for image in data["images"]:
        size = image["height"], image["width"]
        annotations = by_image[image["id"]]
        regions = [_region(annotation, size) for annotation in annotations]
        covered = np.sum([np.zeros(size, bool), *regions], axis=0, dtype=np.uint16)
        for annotation, own in zip(annotations, regions, strict=True):
            if annotation["iscrowd"] or "segmentation" not in annotation:
                continue
            window = box_window(annotation["bbox"], size)
            others = covered > own  # by at least one other
            rival = np.zeros(size, bool)
            rival[window] = others[window] & ~own[window]
            ids = image["id"], annotation["id"], annotation["category_id"]
            box = *annotation["bbox"], others[window].mean()
            masks = (mask_util.encode(np.asfortranarray(m, np.uint8)) for m in (own, rival))
            rows.append((*ids, int(own.sum()), *box, *masks))
    columns = ["image_id", "annotation_id", "category_id", "area", "x", "y", "width", "height"]
    return pd.DataFrame(rows, columns=[*columns, "ambiguity", "mask", "rivals"])


def _region(annotation: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of an instance, `(H, W)`: of its mask, or of its box if it has none."""
    shape = annotation.get("segmentation")
    if shape is None:
        region = np.zeros(size, bool)
        region[box_window(annotation["bbox"], size)] = True
        return region
    return mask_util.decode(to_rle(shape, size)).astype(bool)


def to_rle(shape: list[list[float]] | Rle, size: tuple[int, int]) -> Rle:
    """Polygons or an RLE of any kind as one compressed RLE on an image of `(height, width)`."""
    if isinstance(shape, list):
        return mask_util.merge(mask_util.frPyObjects(shape, *size))
    return mask_util.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape


def box_window(box: Sequence[float], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose centres lie in an xywh box; at least the next one, for
    boxes thinner than a pixel (`opmask.data.cleaning` leaves none beside the image)."""
    x, y, w, h = box
    slices = []
    for low, high, length in ((y, y + h, size[0]), (x, x + w, size[1])):
        start = min(max(int(np.ceil(low - 0.5)), 0), length - 1)
        slices.append(slice(start, max(start + 1, min(int(np.ceil(high - 0.5)), length))))
    return slices[0], slices[1]


def match(frame: pd.DataFrame, detections: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Which detection found each instance, `(instances,)` indices into `detections`, else -1.

    As COCOeval: within an image and class, by falling score, each detection takes the free instance
    of highest box IoU, if that is at least BOX_IOU. `frame` is of `read_objects`.
    """
    keys = ["image_id", "category_id"]
    scored = pd.DataFrame(detections, columns=[*keys, "score"])
    candidates = scored.sort_values("score", ascending=False, kind="stable").groupby(keys).groups
    result = np.full(len(frame), -1)
    boxes = frame[["x", "y", "width", "height"]].to_numpy(float)
    for key, rows in frame.groupby(keys).indices.items():
        if key not in candidates:
            continue
        found = np.array([detections[index]["bbox"] for index in candidates[key]], float)
        ious = mask_util.iou(found, boxes[rows], [0] * len(rows))
        for index, row in zip(candidates[key], ious, strict=True):
            best = int(row.argmax())
            if row[best] >= BOX_IOU:
                result[rows[best]] = index
                ious[:, best] = -1  # taken
    return result


def measure(
    objects: pd.DataFrame, detections: Sequence[Mapping[str, Any]], found: NDArray[np.int64]
) -> pd.DataFrame:
    """How well the matched detections segment their instances; NaN for the unmatched.

    Columns: detection (index, -1 if not found), score, and as shares in [0, 1]
    mask_iou; coverage (of the instance's own pixels, by the mask: low means incomplete or missing);
    confusion (of the other instances' pixels in the box, by the mask: high means that it segments
    the wrong object; NaN without such pixels); perforation (see `perforation`).
    """
    rows = np.full((len(found), 1 + len(MEASURES)), np.nan)
    for row in np.flatnonzero(found >= 0):
        own, rivals = objects["mask"].iloc[row], objects["rivals"].iloc[row]
        mask = detections[found[row]]["segmentation"]
        iou = mask_util.iou([mask], [own], [0]).item()
        coverage, confusion = mask_util.iou([own, rivals], [mask], [1]).flat  # 1: of the former
        confusion = confusion if mask_util.area(rivals) else np.nan
        score = detections[found[row]]["score"]
        rows[row] = score, iou, coverage, confusion, perforation(mask, own)
    return pd.DataFrame(rows, columns=["score", *MEASURES]).assign(detection=found)


def perforation(mask: Rle, own: Rle) -> float:
    """Share of a mask's filled area that is wrongly hole; NaN for an empty mask.

    A hole is background that is not connected, by pixel edges, to the outside of the mask; wrong is
    what belongs to the instance `own`: seeing through a bicycle's frame is no defect.
    """
    x, y, w, h = mask_util.toBbox(mask).astype(int)
    if not w * h:
        return float("nan")
    window = slice(y, y + h), slice(x, x + w)
    pixels = mask_util.decode(mask)[window]
    background, count = ndimage.label(np.pad(pixels, 1) == 0)
    if count == 1:
        return 0.0
    holes = ((background > 0) & (background != background[0, 0]))[1:-1, 1:-1]
    wrong = holes & (mask_util.decode(own)[window] > 0)
    return int(wrong.sum()) / int(pixels.sum() + holes.sum())


def describe(
    one: Run,
    objects: pd.DataFrame,
    detections: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    novel: Sequence[str],
    threshold: float,
    in_true_boxes: pd.Series | None = None,
) -> pd.DataFrame:
    """The instances as one run found them: a part of `ambiguity.csv`.

    in_true_boxes: mask IoU there, by annotation id, where it is known.
    """
    names = objects["category_id"].map({c["id"]: c["name"] for c in categories})
    frame = objects.assign(
        **{"run": one.name, **asdict(one)},
        category=names,
        supervision=np.where(names.isin(novel), "novel", "supervised"),
        ambiguous=objects["ambiguity"] > threshold,
        **{
            IN_TRUE_BOX: objects["annotation_id"].map(
                in_true_boxes if in_true_boxes is not None else {}
            )
        },
    )
    measured = measure(objects, detections, match(objects, detections))
    return pd.concat([frame, measured], axis=1)[COLUMNS]


def empty_frame(objects: pd.DataFrame) -> pd.DataFrame:
    """`ambiguity.csv` without a row."""
    none = Run("", "", "", "", "", 0)
    return describe(none, objects, [], [], [], 0.0).iloc[:0]


def group_ap(
    data: Mapping[str, Any], frame: pd.DataFrame, detections: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Novel-class mask AP on the ambiguous and on the clean instances alone: group, AP.

    Left out are the instances of the other group and the detections that found them; what found
    nothing counts as wrong for both groups.
    """
    novel = frame[frame["supervision"] == "novel"]
    ids = set(novel["category_id"])
    candidates = [n for n, d in enumerate(detections) if d["category_id"] in ids]
    objects, rows = data["annotations"], []
    crowds = {a["id"] for a in objects if a.get("iscrowd") and a["category_id"] in ids}
    for group, ambiguous in (("ambiguous", True), ("clean", False)):
        foreign = set(novel.loc[novel["ambiguous"] != ambiguous, "detection"])
        kept = set(novel.loc[novel["ambiguous"] == ambiguous, "annotation_id"])
        truth = [a for a in objects if a["id"] in kept | crowds]
        found = [detections[n] for n in candidates if n not in foreign]
        result = evaluate({**data, "annotations": truth}, found, task="segm").per_class()
        rows.append({"group": group, "AP": subset_summary(result, ids)["AP"]})
    return pd.DataFrame(rows)
