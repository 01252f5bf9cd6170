"""What the data of COCO cost: time and memory of all that reads its 860,001 annotations.

The json files are synthetic, in COCO's layout: boxes and classes are its own where --boxes names
their folder, else random ones of its statistics; the shapes are drawn: 25 points on average, and
crowds as RLE. Images are empty files, as nothing here looks into one. Every row is measured in a
process of its own, into which it has imported what it needs.
"""

import os
import re
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import psutil
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from benchmarks.evaluator import XYWH, synthetic
from opmask.data.coco import (
    ImageSet,
    Manifest,
    hold_out,
    load_training_dicts,
    supervised_mask_count,
)
from opmask.data.splits import COCO_CLASSES, VOC_CLASSES
from opmask.errors import UserError

IMAGES = {"train": 118_287, "val": 5_000}
OBJECTS = {"train": 849_942, "val": 36_335}
CROWDS, DETECTIONS = 0.012, 100  # crowds an object; detections an image
WIDTH, HEIGHT, POINTS, BLOCK = 640, 480, 25, 20_000
RANKS, WORKERS, HELD_OUT = 2, 2, 5000
CATEGORY_IDS = np.setdiff1d(np.arange(1, 91), [12, 26, 29, 30, 45, 66, 68, 69, 71, 83])
SUPERVISED = [int(i) for i, n in zip(CATEGORY_IDS, COCO_CLASSES, strict=True) if n in VOC_CLASSES]


def coco_size(options: Namespace) -> pd.DataFrame:
    """CPU time and memory of stage data, overlap, training dicts, evaluation, at COCO's size."""
    with tempfile.TemporaryDirectory() as folder:
        for name in IMAGES:
            write_set(Path(folder), name, options.boxes)
        return pd.DataFrame([measure(row, Path(folder)) for row in ROWS])


def measure(row: str, folder: Path) -> dict[str, Any]:
    """`row` of ROWS, in a process of its own; peak_gib: resident, of which
    before_gib are libraries and what the row is given."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return {"row": row, **pool.submit(_measured, row, folder).result()}


def _measured(row: str, folder: Path) -> dict[str, float]:
    action = ROWS[row](folder)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: peaks count from here
    resident, before = _peak(), sum(os.times()[:4])
    answer = action() or {}
    spent = sum(os.times()[:4]) - before
    return {"cpu_s": spent, "peak_gib": _peak(), "before_gib": resident, **answer}


def _peak() -> float:
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 2**20


Action = Callable[[], dict[str, float] | None]


def stage_data(folder: Path) -> Action:
    """What stage `data` does with COCO: checks, cleaned copies, digests."""
    from pipeline.data import check_folder

    settings: dict[str, Any] = {"kind": "coco", "check_images": "exist", "on_degenerate": "skip"}
    for name in IMAGES:
        settings |= {f"{name}_annotations": f"{name}.json", f"{name}_images": name}
    os.chdir(folder)
    return lambda: print(check_folder(folder / "cleaned", folder, settings), file=sys.stderr)


def overlap(folder: Path) -> Action:
    """Stage `overlap` on the cleaned copy."""
    from study.analysis.overlap import class_overlap

    return lambda: print(class_overlap(_cleaned(folder)), file=sys.stderr)


def _cleaned(folder: Path) -> Path:
    return folder / "cleaned" / "annotations" / "train.json"


def _sources(folder: Path) -> tuple[Path, Path, list[int], Path]:
    return _cleaned(folder), folder / "train", SUPERVISED, folder / "cache"


def training_dicts(folder: Path) -> Action:
    """All that a training does with them before its first image."""
    make = _maker()

    def start() -> None:
        dicts, _ = load_training_dicts(*_sources(folder))
        dicts, _ = hold_out(dicts, HELD_OUT)
        supervised_mask_count(dicts, "voc", _cleaned(folder))
        make(dicts)

    return start


def _maker() -> Callable[[Any], Any]:
    """Makes `TrainingImages` of dicts; what that takes is imported by then."""
    from detectron2.config import get_cfg

    from opmask.data.loader import TrainingImages
    from opmask.model.config import add_opmask_config

    cfg = get_cfg()
    add_opmask_config(cfg)
    cfg.MODEL.MASK_ON = True
    return partial(TrainingImages, cfg=cfg)


def processes(folder: Path) -> Action:
    """Proportional memory of RANKS with WORKERS each, when all have seen every image."""

    def start() -> dict[str, float]:
        with ProcessPoolExecutor(RANKS, get_context("spawn")) as ranks:
            list(ranks.map(_import, range(RANKS)))
            before = _shared_memory()
            list(ranks.map(_rank, [folder] * RANKS))
            return {"peak_gib": _shared_memory(), "before_gib": before}

    return start


def _import(_: int) -> None:
    _maker()
    time.sleep(1)  # so that no other rank does it twice


def _shared_memory() -> float:
    """GiB of all processes that this one has started; what they share counts once."""
    started = psutil.Process().children(recursive=True)
    return sum(process.memory_full_info().pss for process in started) / 2**30


def _rank(folder: Path) -> None:
    """Its loader processes end with it, as daemons do."""
    dicts, _ = load_training_dicts(*_sources(folder))
    _rank.images = _maker()(dicts)  # type: ignore[attr-defined]
    del dicts
    _rank.workers = get_context("fork").Pool(WORKERS)  # type: ignore[attr-defined]
    _rank.workers.map(_see_all, range(WORKERS), chunksize=1)  # type: ignore[attr-defined]


def _see_all(_: int) -> None:
    for record in _rank.images.dicts:  # type: ignore[attr-defined]
        assert record["annotations"]
    time.sleep(1)  # so that no other loader process does it twice


def evaluation(folder: Path) -> Action:
    """Boxes and masks of one run, as stage `evaluate` does it: tables, and matches in files."""
    from pipeline.evaluate import per_class

    sizes = {"images": IMAGES["val"], "objects": OBJECTS["val"]}
    truth, found = synthetic(**sizes, detections=DETECTIONS * IMAGES["val"])
    (path := folder / "truth.json").write_bytes(orjson.dumps(truth))
    boxes = mask_util.toBbox([d["segmentation"] for d in found]).tolist()
    detections = [d | {"bbox": box} for d, box in zip(found, boxes, strict=True)]
    held = ImageSet(path, folder, {})
    manifest = Manifest("coco", [], held, held)
    del truth, found
    return lambda: print(per_class(detections, manifest, folder, masks=True), file=sys.stderr)


ROWS = {
    "stage data": stage_data,
    "overlap": overlap,
    "training dicts, first start": training_dicts,
    "training dicts, next start": training_dicts,
    f"training dicts, {RANKS} ranks of {WORKERS} loader processes": processes,
    "evaluation, boxes and masks": evaluation,
}


def write_set(folder: Path, name: str, boxes: Path | None) -> None:
    """`<name>.json` in COCO's layout below `folder`, and its images, empty, in `<name>/`."""
    rng = np.random.default_rng(len(name))
    objects = _read_boxes(boxes, name) if boxes else _draw_boxes(name, rng)
    crowds = objects.sample(int(CROWDS * len(objects)), random_state=rng).assign(iscrowd=1)
    objects = pd.concat([objects.assign(iscrowd=0), crowds]).sample(frac=1, random_state=rng)
    ids = np.unique(objects["image_id"])  # of COCO's files; then images without any object
    ids = np.concatenate([ids, np.arange(1, IMAGES[name] - len(ids) + 1) + ids.max()])
    size = {"license": 3, "height": HEIGHT, "width": WIDTH, "date_captured": "2013-11-14 17:02:52"}
    images = [{"file_name": f"{i:012}.jpg", "id": i, **size} for i in ids.tolist()]
    (folder / name).mkdir()
    for image in images:
        (folder / name / image["file_name"]).touch()
    categories = [
        {"supercategory": "thing", "id": i, "name": n}
        for i, n in zip(CATEGORY_IDS.tolist(), COCO_CLASSES, strict=True)
    ]
    with (folder / f"{name}.json").open("wb") as file:
        file.write(b'{"info": {"year": 2017},"images": ' + orjson.dumps(images))
        file.write(b',"annotations": [')
        for first in range(0, len(objects), BLOCK):
            block = _annotations(objects[first : first + BLOCK], first + 1, rng)
            file.write(b"," * (first > 0) + orjson.dumps(block)[1:-1])
        file.write(b'],"categories": ' + orjson.dumps(categories) + b"}")


def _read_boxes(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"boxes_{name}2017.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            centre, size = np.split(arrays["cxcywh_normalised"].astype(float), 2, axis=1)
            columns = {key: arrays[key] for key in ("image_id", "category_id")}
    except (OSError, ValueError, KeyError) as error:
        needs = "image_id (N,), category_id (N,) and cxcywh_normalised (N, 4)"
        raise UserError(f"--boxes: {path}: cannot be read, needs {needs} ({error})") from None
    return _in_pixels(centre - size / 2, size).assign(**columns)


def _draw_boxes(name: str, rng: np.random.Generator) -> pd.DataFrame:
    """As many as COCO has, most of them small; common and rare classes, images full and empty."""
    count = OBJECTS[name]
    size = np.exp(rng.uniform(np.log(0.01), np.log(0.9), (count, 2)))
    weight = 1 / np.arange(1, len(CATEGORY_IDS) + 1)
    crowded = rng.gamma(1.0, size=IMAGES[name])
    return _in_pixels(rng.random((count, 2)) * (1 - size), size).assign(
        image_id=1 + rng.choice(IMAGES[name], count, p=crowded / crowded.sum()),
        category_id=rng.choice(CATEGORY_IDS, count, p=weight / weight.sum()),
    )


def _in_pixels(corner: NDArray, size: NDArray) -> pd.DataFrame:
    pixels = np.hstack([corner, size]) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return pd.DataFrame(pixels.round(2), columns=XYWH)


def _annotations(objects: pd.DataFrame, first_id: int, rng: np.random.Generator) -> list[Any]:
    """Entries with one ragged outline each, or of a crowd its runs."""
    counts = np.clip(rng.lognormal(np.log(POINTS) - 0.25, 0.7, len(objects)), 4, 300).astype(int)
    entries = []
    for number, (count, row) in enumerate(zip(counts, objects.to_dict("records"), strict=True)):
        box = [row.pop(key) for key in XYWH]
        angle = np.sort(rng.random(count)) * 2 * np.pi
        circle = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.7, 1, (count, 1))
        outline = np.add(box[:2], (0.5 + 0.5 * circle) * box[2:]).clip(0, [WIDTH, HEIGHT])
        mask: Any = [outline.round(2).ravel().tolist()]
        if row["iscrowd"]:
            runs = rng.integers(1, 200, 4 * count).tolist()
            mask = {"counts": [*runs, WIDTH * HEIGHT - sum(runs)], "size": [HEIGHT, WIDTH]}
        area = box[2] * box[3] * 0.6
        entries.append({"segmentation": mask, "area": area, **row, "bbox": box})
        entries[-1]["id"] = first_id + number
    return entries
