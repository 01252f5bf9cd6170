"""A tiny COCO data set and a tiny detector, for tests that train for real."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from opmask.model.config import paper_config
from opmask.training.trainer import TrainingData

SIZE = 64
CLASSES = ("disc", "box", "bar", "dot")  # ids 3, 5, 7, 11: not contiguous, as in COCO
IDS = (3, 5, 7, 11)
SUPERVISED = (3, 5)

OVERRIDES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.OPMASK.BOX_CONV_DIMS": [16, 16, 16, 16],
    "MODEL.ROI_BOX_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "INPUT.MIN_SIZE_TRAIN": [64, 80],
    "INPUT.MIN_SIZE_TEST": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "MODEL.WEIGHTS": "",
}
OPMASK = {"mask_head": "PriorMaskHead", "prior": True, "mask_gradients": True, "mask_convs": 7}


def tiny_cfg(max_iter: int = 4, **changes):
    """OPMask on four classes, two of them supervised; `changes` with `__` for dots."""
    overrides = {**OVERRIDES, **{k.replace("__", "."): v for k, v in changes.items()}}
    cfg = paper_config(
        method=OPMASK,
        backbone={"resnet": 50},
        supervised=[0, 1],
        num_classes=4,
        overrides=overrides,
    )
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SEED = max_iter, (max_iter - 1,), 7
    return cfg


def write_images(folder: Path, count: int = 6) -> TrainingData:
    """`count` noisy images with one object of each class; the classes without masks have boxes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        name = f"{number}.png"
        height = SIZE if number % 2 else SIZE + 16
        Image.fromarray(rng.integers(0, 255, (height, SIZE, 3), np.uint8)).save(folder / name)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": height})
        for category in IDS:
            x, y = rng.uniform(0, 30, 2).round(1).tolist()
            w, h = rng.uniform(12, 30, 2).round(1).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": category,
                    "bbox": [x, y, w, h], "area": w * h / 2, "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x, y + h]],
                }
            )  # fmt: skip
    categories = [{"id": i, "name": n} for i, n in zip(IDS, CLASSES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return TrainingData(path, folder, SUPERVISED)
