"""What the models are given: miniature images made on the spot, or noise of COCO's size."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from opmask.data.coco import ImageSet, Manifest, load_categories
from opmask.data.splits import COCO_CLASSES
from opmask.miniature.build import build

HEIGHT, WIDTH, OBJECTS = 800, 1066, 8  # of a synthetic COCO image


def miniature_images(settings: dict[str, Any], folder: Path) -> None:
    """Build some images like those of a scale's `data` in params.yaml; the same every time."""
    own = {key: settings[key] for key in ("seed", "image_size")}
    floors = {"min_train_instances": 0, "min_val_instances": 0}
    build(folder, **own, train_images=128, val_images=64, **floors, progress=False)


def manifest(folder: str) -> Manifest:
    """Of the images in `folder`, or, where that is "", of COCO's classes alone."""
    train, val = (
        ImageSet(Path(folder, "annotations", f"instances_{name}.json"), Path(folder, name), {})
        for name in ("train", "val")
    )
    if not folder:
        categories = [{"id": k, "name": name} for k, name in enumerate(COCO_CLASSES, 1)]
        return Manifest("coco", categories, train, val)
    return Manifest("miniature", load_categories(train.annotations), train, val)


def synthetic_batch(
    images: int, seed: int = 0, masks: type[PolygonMasks] = PolygonMasks
) -> list[dict[str, Any]]:
    """`images` model inputs: uint8 noise (3, 800, 1066), boxes, classes, one polygon each."""
    rng = np.random.default_rng(seed)
    batch = []
    for number in range(images):
        corner = rng.uniform(0, [WIDTH - 300, HEIGHT - 300], (OBJECTS, 2))
        boxes = np.hstack([corner, corner + rng.uniform(30, 300, (OBJECTS, 2))])
        polygons = [[np.array([x0, y0, x1, y0, x1, y1])] for x0, y0, x1, y1 in boxes]
        instances = Instances(
            (HEIGHT, WIDTH),
            gt_boxes=Boxes(torch.from_numpy(boxes).float()),
            gt_classes=torch.from_numpy(rng.integers(0, 80, OBJECTS)),
            gt_masks=masks(polygons),
        )
        pixels = torch.from_numpy(rng.integers(0, 255, (3, HEIGHT, WIDTH), np.uint8))
        size = {"height": HEIGHT, "width": WIDTH, "image_id": number}
        batch.append({"image": pixels, "instances": instances, **size})
    return batch
