"""COCO data as the stages use it: the manifest of a data set, and training dicts from it.

`load_training_dicts` is the single place where masks of novel classes are dropped, so that none
can reach training (paper, section 4: novel classes have boxes only).
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from opmask.data.checks import Summary, check, load_categories, summarize
from opmask.data.records import Record, load_json
from opmask.data.shapes import Segmentation
from opmask.data.shared import POLYGONS, RLE, SharedSet, read_set
from opmask.errors import UserError

__all__ = [
    "ImageSet",
    "Manifest",
    "Summary",
    "TrainingDicts",
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


@dataclass(frozen=True)
class TrainingDicts(Sequence[Record]):
    """detectron2's dataset dicts of some images, each made when it is asked for.

    A dict has file_name, image_id, height, width and annotations, each with bbox (4 floats, xywh in
    pixels), bbox_mode, category_id (0 … C-1, the position among the categories), iscrowd and, if
    supervised and no crowd, segmentation (polygons of at least 6 floats, or a compressed RLE).
    """

    shared: SharedSet
    image_dir: Path
    supervised: NDArray[np.bool_]  # (C,)
    images: NDArray[np.intp]  # positions in `shared.images`

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        position = self.images[index]
        image = self.shared.images[position]
        ids = [category["id"] for category in self.shared.categories]
        return {
            "file_name": str(self.image_dir / self.shared.file_name(position)),
            "image_id": int(image["id"]),
            "height": int(image["height"]),
            "width": int(image["width"]),
            "annotations": [
                _training_object(annotation, ids.index(annotation["category_id"]), self.supervised)
                for annotation in self.shared.of_image(position)
            ],
        }

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """(N,), ascending."""
        return self.shared.images["id"][self.images]

    @property
    def landscape(self) -> NDArray[np.bool_]:
        """(N,) whether an image is wider than high."""
        return (self.shared.images["width"] > self.shared.images["height"])[self.images]

    def masks(self, *kinds: int) -> NDArray[np.int64]:
        """(N,) how many masks of these `kinds` (POLYGONS, RLE) a dict has."""
        objects = self.shared.objects
        kept = self.supervised[objects["category"]] & ~objects["crowd"]
        sums = np.append(0, np.cumsum(kept & np.isin(objects["mask"], kinds)))
        images = self.shared.images
        return (sums[images["last"]] - sums[images["first"]])[self.images]


def load_training_dicts(
    annotations: Path,
    image_dir: Path,
    supervised_ids: Collection[int],
    cache: Path | None = None,
) -> tuple[TrainingDicts, list[Record]]:
    """detectron2 dataset dicts of a COCO json that `check` accepts, and its categories.

    supervised_ids: COCO category ids whose masks are kept; all others lose them here.
    cache: folder that keeps what was parsed, for other processes and later starts
        (`opmask.data.shared.read_set`).

    Images come by id. Degenerate boxes are left out, and images without a non-crowd box
    (detectron2's FILTER_EMPTY_ANNOTATIONS), whether or not they have masks: the images a run sees
    do not depend on its split.
    """
    shared = read_set(annotations, cache)
    ids = [category["id"] for category in shared.categories]
    unknown = sorted(set(supervised_ids) - set(ids))
    if unknown:
        count = len(unknown)
        raise UserError(f"{annotations}: category {unknown[0]} does not exist ({count} such ids)")
    images, supervised = np.arange(len(shared.images)), np.isin(ids, list(supervised_ids))
    return TrainingDicts(shared, image_dir, supervised, images), shared.categories


def hold_out(dicts: TrainingDicts, count: int) -> tuple[TrainingDicts, list[int]]:
    """The dicts without `count` images drawn at random, and the ascending ids of those.

    The same images for every run: the draw depends on the data set and `count` alone.

    Raises UserError if fewer than `count` + 1 images are given.
    """
    if count >= len(dicts):
        raise UserError(f"held_out_images: {count} asked for, but there are {len(dicts)} images")
    drawn = np.random.default_rng(0).choice(len(dicts), count, replace=False)
    ids = sorted(dicts.image_ids[drawn].tolist())
    return replace(dicts, images=np.delete(dicts.images, drawn)), ids


def supervised_mask_count(dicts: TrainingDicts, split: str, annotations: Path) -> int:
    """How many masks the training dicts hold; UserError if none, as then no mask can be learnt."""
    count = int(dicts.masks(POLYGONS, RLE).sum())
    if count == 0:
        raise UserError(f"split '{split}' has no annotation with a mask in {annotations}")
    return count


def _training_object(annotation: Record, category: int, supervised: NDArray[np.bool_]) -> Record:
    instance: Record = {
        "bbox": [float(value) for value in annotation["bbox"]],
        "bbox_mode": XYWH_ABS,
        "category_id": category,
        "iscrowd": annotation["iscrowd"],
    }
    is_supervised = supervised[category] and not instance["iscrowd"]
    if is_supervised and "segmentation" in annotation:
        instance["segmentation"] = _training_mask(annotation["segmentation"])
    return instance


def _training_mask(mask: Segmentation) -> Segmentation:
    if isinstance(mask, list):
        return [[float(value) for value in polygon] for polygon in mask]
    if isinstance(mask["counts"], list):
        return mask_util.frPyObjects(mask, *mask["size"])
    return mask
