"""Evaluated runs whose AP follows from a count: how many of the images a run gets right.

One object of each class in each of IMAGES images. A run finds all of them, those of the first
`right` images exactly and with the highest scores, the others not at all. So precision is 1 up to
recall right / IMAGES, and every AP of a class is `ap(right)`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as rle

from opmask.evaluation.coco_ap import evaluate
from study.spec.run import Run

IMAGES = 10
CLASSES = {1: "cat", 2: "dog", 3: "kite", 4: "cup", 5: "book"}  # two of VOC, three others
VOC = ("cat", "dog")


def ap(right: int) -> float:
    """Mean precision over recalls 0, 0.01 … 1, percent: 1 at those reached, else 0.

    Not for 7: COCOeval's recall 0.70 is a float above 7 / 10.
    """
    assert right != 7
    return 100 * (10 * right + 1) / 101 if right else 0.0


def _square(x: int) -> dict:
    mask = np.zeros((40, 40), np.uint8, order="F")
    mask[5:15, x : x + 10] = 1
    encoded = rle.encode(mask)
    return encoded | {"counts": encoded["counts"].decode()}


GOOD, BAD = ({"bbox": [x, 5, 10, 10], "segmentation": _square(x)} for x in (5, 25))


def write_ground_truth(path: Path) -> Path:
    annotations = [
        dict(id=10 * image + c, image_id=image, category_id=c, area=100, iscrowd=0) | GOOD
        for image in range(1, IMAGES + 1)
        for c in CLASSES
    ]
    images = [dict(id=i, width=40, height=40, file_name=f"{i}.png") for i in range(1, IMAGES + 1)]
    categories = [dict(id=i, name=name) for i, name in CLASSES.items()]
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))
    return path


def write_run(folder: Path, truth: Path, run: Run, right: dict[str, tuple[int, int]]) -> None:
    """What the stages leave of a run: `per_class.csv`, `matches_<task>.npz`.

    right: by task, images that are right for VOC classes, and for the others.
    """
    novel = {"voc": lambda name: name not in VOC, "nonvoc": lambda name: name in VOC}
    tables = []
    (folder / run.key).mkdir(parents=True)
    for task, counts in right.items():
        found = [
            dict(image_id=image, category_id=c, score=1 - image / 100)
            | (GOOD if image <= counts[name not in VOC] else BAD)
            for image in range(1, IMAGES + 1)
            for c, name in CLASSES.items()
        ]
        result = evaluate(truth, found, task=task)
        result.matches.save(folder / run.key / f"matches_{task}.npz")
        tables.append(result.per_class())
    is_novel = novel.get(run.supervised, lambda name: False)
    table = pd.concat(tables)
    table["supervision"] = ["novel" if is_novel(c) else "supervised" for c in table["category"]]
    fields = dict(run=run.name, method=run.method, backbone=run.backbone)
    fields |= dict(supervised=run.supervised, schedule=run.schedule, seed=run.seed)
    table.assign(**fields).to_csv(folder / run.key / "per_class.csv", index=False)
