"""A tiny COCO data set with every kind of annotation, for the tests of the contract."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

WIDTH, HEIGHT = 40, 30
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
CROWD = {"size": [HEIGHT, WIDTH], "counts": [10, 20, WIDTH * HEIGHT - 30]}
COMPRESSED = {
    "size": [HEIGHT, WIDTH],
    "counts": mask_util.frPyObjects(CROWD, HEIGHT, WIDTH)["counts"].decode(),
}


def box(number: int, image: int, category: int, segmentation=None, **others) -> dict:
    annotation = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0}
    annotation |= {"bbox": [2, 2.5, 10, 10], "area": 100} | others
    return annotation | ({} if segmentation is None else {"segmentation": segmentation})


CONTENT = {
    "images": [
        {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (7, 3, 5, 9)
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 4, "name": "cat"}],
    "annotations": [
        box(1, 7, 4, SQUARE),
        box(2, 3, 18, SQUARE + [[20, 20, 30, 20, 30, 29]]),
        box(3, 3, 4),  # only a box
        box(4, 7, 18, COMPRESSED),
        box(5, 7, 4, CROWD),  # an uncompressed RLE
        box(6, 5, 4, CROWD, iscrowd=1),  # image 5 holds a crowd alone, image 9 nothing
        box(7, 3, 4, CROWD, iscrowd=1),
    ],
}


def write(folder: Path, content: dict) -> tuple[Path, Path]:
    """(annotation file, image folder) of `content`, with an image file each."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for image in CONTENT["images"]:
        Image.fromarray(pixels).save(images / image["file_name"])
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path, images
