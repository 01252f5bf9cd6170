"""Write the miniature data set: COCO json and images, whole or not at all."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from pycocotools import mask as coco_mask
from tqdm import tqdm

from opmask.errors import UserError
from opmask.miniature.catalogue import classes
from opmask.miniature.compose import compose
from opmask.miniature.planning import ImagePlan, plan

JPEG_QUALITY = 92
SPLITS = ("train", "val")  # their position seeds them
FEW_IMAGES = 500  # below, starting workers takes longer than it saves

CREDITS = """\
The pictures in this folder are composed of drawings by others and by this project.
Twemoji graphics, (c) Twitter, Inc and other contributors, CC-BY 4.0,
  https://creativecommons.org/licenses/by/4.0/
OpenMoji, "All emojis designed by OpenMoji - the open-source emoji and icon project",
  CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/
Changes: rendered, scaled, rotated, mirrored, recoloured and overlaid on drawn backgrounds.
Pictures that contain OpenMoji drawings are therefore CC BY-SA 4.0 as well.
Class names and category ids: COCO, https://cocodataset.org
"""


def build(
    out_dir: Path,
    *,
    seed: int,
    image_size: int,
    train_images: int,
    val_images: int,
    min_train_instances: int,
    min_val_instances: int,
    progress: bool = True,
    workers: int | None = None,
) -> None:
    """Write `out_dir/annotations/instances_{train,val}.json`, `out_dir/{train,val}/*.jpg`, credits.

    Images are `image_size` pixels square. Every class has at least `min_*_instances` visible
    instances in a split. The bytes depend on the arguments, not on `workers` (default: one a CPU).
    An existing `out_dir` is replaced when the new one is complete.

    Raises UserError if the images are too few for the floors, a number makes no sense, or a worker
    was killed.
    """
    _check(seed=(seed, 0), image_size=(image_size, 64), train_images=(train_images, 1))
    _check(val_images=(val_images, 1), workers=(1 if workers is None else workers, 1))
    _check(min_train_instances=(min_train_instances, 0), min_val_instances=(min_val_instances, 0))
    floors = (min_train_instances, min_val_instances)
    plans = [_plans(seed, 0, train_images, floors[0]), _plans(seed, 1, val_images, floors[1])]
    partial_dir = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial_dir, ignore_errors=True)
    try:
        (partial_dir / "annotations").mkdir(parents=True)
        for split, label in enumerate(SPLITS):
            (partial_dir / label).mkdir()
            draw = partial(_draw, partial_dir / label, seed, split, image_size)
            results = _mapped(draw, plans[split], workers, progress, label)
            _write_annotations(partial_dir, split, image_size, floors[split], results)
        (partial_dir / "CREDITS.txt").write_text(CREDITS, encoding="utf-8")
        shutil.rmtree(out_dir, ignore_errors=True)
        partial_dir.rename(out_dir)
    finally:
        shutil.rmtree(partial_dir, ignore_errors=True)


def _check(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise UserError(f"miniature data set: {name} = {value}, must be at least {least}")


def _plans(seed: int, split: int, images: int, floor: int) -> list[ImagePlan]:
    try:
        return plan(np.random.default_rng([seed, split]), images, floor)
    except ValueError as error:
        key = f"min_{SPLITS[split]}_instances"
        raise UserError(f"miniature data set: {key} = {floor}: {error}") from None


def _mapped(
    draw: Callable[[tuple[int, ImagePlan]], list[dict]],
    plans: list[ImagePlan],
    workers: int | None,
    progress: bool,
    label: str,
) -> list[list[dict]]:
    """`draw` of every (index, plan), in order, on `workers` processes."""
    count = workers or (1 if len(plans) < FEW_IMAGES else os.cpu_count() or 1)
    # joblib's processes are not forked (the caller may hold threads of torch or OpenCV), and unlike
    # Python's own pools it does not wait for one that was killed.
    pool = Parallel(count, batch_size=8, return_as="generator")
    try:
        results = pool(delayed(draw)(item) for item in enumerate(plans))
        bar = tqdm(results, total=len(plans), desc=f"miniature {label}", disable=not progress)
        return list(bar)
    except BrokenProcessPool as error:
        raise UserError(f"miniature {label}: a process was killed; is there memory?") from error


def _draw(
    folder: Path, seed: int, split: int, image_size: int, item: tuple[int, ImagePlan]
) -> list[dict]:
    """Compose one image, write it to `folder`, return its annotations without their ids."""
    index, image_plan = item
    cv2.setNumThreads(1)
    # The third number keeps these streams apart from the plan's, which has two.
    rng = np.random.default_rng([seed, split, index + 1])
    scene = compose(rng, image_plan, image_size)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    ok, data = cv2.imencode(".jpg", scene.image[..., ::-1], options)
    if not ok:
        raise OSError(f"cannot encode image {index + 1} of {folder}")
    (folder / file_name(index)).write_bytes(data.tobytes())
    return [annotation(name, mask, image_id=index + 1) for name, mask in scene.objects]


def file_name(index: int) -> str:
    """File name of the image with 0-based `index`; its id is `index + 1`."""
    return f"{index + 1:06d}.jpg"


def annotation(class_name: str, mask: np.ndarray, image_id: int) -> dict:
    """COCO annotation of a bool (h, w) mask, without its id; the box is tight around the mask."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "image_id": image_id,
        "category_id": classes()[class_name].category_id,
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
    }


def _write_annotations(
    folder: Path, split: int, image_size: int, floor: int, results: list[list[dict]]
) -> None:
    annotations = [entry for image in results for entry in image]
    counts = Counter(entry["category_id"] for entry in annotations)
    for entry in classes().values():
        found = counts[entry.category_id]
        if found < floor:  # compose() lost an object although its last resort hides none
            raise RuntimeError(f"{SPLITS[split]}: {found} visible {entry.name}, planned {floor}")
    document = {
        "info": {"description": "opmask miniature; credits and licences in CREDITS.txt"},
        "images": [
            {"id": i + 1, "file_name": file_name(i), "width": image_size, "height": image_size}
            for i in range(len(results))
        ],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations, start=1)],
        "categories": [{"id": c.category_id, "name": c.name} for c in classes().values()],
    }
    path = folder / "annotations" / f"instances_{SPLITS[split]}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
