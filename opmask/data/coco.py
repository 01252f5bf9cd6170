"""COCO data as the stages use it: the manifest of a data set, and training dicts from it.

`load_training_dicts` is the single place where masks of novel classes are dropped, so that none
can reach training (paper, section 4: novel classes have boxes only).
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_util

from opmask.data.checks import Summary, check, load_categories, summarize
from opmask.data.cleaning import clean
from opmask.data.records import Record, load_json
from opmask.data.shapes import Segmentation
from opmask.errors import UserError

__all__ = [
    "ImageSet",
    "Manifest",
    "Summary",
    "check",
    "hold_out",
    "load_categories",
    "load_manifest",
    "load_training_dicts",
    "load_json",
    "summarize",
    "supervised_mask_count",
]

# detectron2.structures.BoxMode.XYWH_ABS; written out so that loading needs no torch.
XYWH_ABS = 1


@dataclass(frozen=True)
class ImageSet:
    """One annotated set of images; `counts` has images, annotations, with_masks, crowd, …"""

    annotations: Path
    images: Path
    counts: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """A checked data set: all that later stages know of it."""

    kind: str  # "miniature" or "coco"
    categories: list[Record]  # by ascending id, of which training makes 0 … C-1
    train: ImageSet
    val: ImageSet


def load_manifest(path: Path) -> Manifest:
    """Reads what the `data` stage wrote; paths come out relative to the working directory.

    In the file, annotations are relative to its folder and images to `root`.
    """
    try:
        content = json.loads(path.read_text())
        root = path.parent / content["root"]  # an absolute root stays as it is
        sets = {
            name: ImageSet(
                path.parent / content[name]["annotations"],
                root / content[name]["images"],
                content[name]["counts"],
            )
            for name in ("train", "val")
        }
        return Manifest(content["kind"], content["categories"], **sets)
    except FileNotFoundError:
        raise UserError(f"{path}: no such manifest; run the `data` stage first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no manifest of the `data` stage ({error!r})") from None


def load_training_dicts(
    annotations: Path,
    image_dir: Path,
    supervised_ids: Collection[int],
) -> tuple[list[Record], list[Record]]:
    """detectron2 dataset dicts of a COCO json that `check` accepts, and its categories.

    supervised_ids: COCO category ids whose masks are kept; all others lose them here.

    Returns (dicts, categories). A dict has file_name, image_id, height, width and annotations,
    each with bbox (4 floats, xywh in pixels), bbox_mode, category_id (0 … C-1, the position in
    `categories`), iscrowd and, if supervised and no crowd, segmentation (polygons of at least 6
    floats, or a compressed RLE). Images come by id. Degenerate boxes are left out, and images
    without a non-crowd box (detectron2's FILTER_EMPTY_ANNOTATIONS), whether or not they have
    masks: the images a run sees do not depend on its split.
    """
    data = clean(load_json(annotations))
    categories = sorted(data["categories"], key=lambda category: category["id"])
    contiguous = {category["id"]: index for index, category in enumerate(categories)}
    unknown = sorted(set(supervised_ids) - contiguous.keys())
    if unknown:
        count = len(unknown)
        raise UserError(f"{annotations}: category {unknown[0]} does not exist ({count} such ids)")
    images = {image["id"]: image for image in data["images"]}
    by_image: dict[int, list[Record]] = defaultdict(list)
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)

    supervised, dicts = frozenset(supervised_ids), []
    for image_id in sorted(images):
        objects = [
            _training_object(annotation, contiguous, supervised)
            for annotation in by_image[image_id]
        ]
        if not all(instance["iscrowd"] for instance in objects):
            dicts.append(_training_dict(images[image_id], image_dir, objects))
    return dicts, categories


def hold_out(dicts: Sequence[Record], count: int) -> tuple[list[Record], list[int]]:
    """The dicts without `count` images drawn at random, and the ascending ids of those.

    The same images for every run: the draw depends on the data set and `count` alone.

    Raises UserError if fewer than `count` + 1 images are given.
    """
    if count >= len(dicts):
        raise UserError(f"held_out_images: {count} asked for, but there are {len(dicts)} images")
    drawn = np.random.default_rng(0).choice(len(dicts), count, replace=False)
    ids = sorted(dicts[index]["image_id"] for index in drawn)
    held = set(ids)
    return [record for record in dicts if record["image_id"] not in held], ids


def supervised_mask_count(dicts: Sequence[Record], split: str, annotations: Path) -> int:
    """How many masks the training dicts hold; UserError if none, as then no mask can be learnt."""
    count = sum("segmentation" in o for record in dicts for o in record["annotations"])
    if count == 0:
        raise UserError(f"split '{split}' has no annotation with a mask in {annotations}")
    return count


def _training_dict(image: Record, image_dir: Path, objects: list[Record]) -> Record:
    return {
        "file_name": str(image_dir / image["file_name"]),
        "image_id": image["id"],
        "height": image["height"],
        "width": image["width"],
        "annotations": objects,
    }


def _training_object(
    annotation: Record, contiguous: Mapping[int, int], supervised: frozenset[int]
) -> Record:
    instance: Record = {
        "bbox": [float(value) for value in annotation["bbox"]],
        "bbox_mode": XYWH_ABS,
        "category_id": contiguous[annotation["category_id"]],
        "iscrowd": annotation["iscrowd"],
    }
    is_supervised = annotation["category_id"] in supervised and not instance["iscrowd"]
    if is_supervised and "segmentation" in annotation:
        instance["segmentation"] = _training_mask(annotation["segmentation"])
    return instance


def _training_mask(mask: Segmentation) -> Segmentation:
    if isinstance(mask, list):
        return [[float(value) for value in polygon] for polygon in mask]
    if isinstance(mask["counts"], list):
        return mask_util.frPyObjects(mask, *mask["size"])
    return mask
