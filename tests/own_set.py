"""A stranger's data set: four kinds of shapes, two of them with boxes only; and its params.yaml."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
from parameters import write_params
from PIL import Image, ImageDraw

from study.spec.params import load_params

CLASSES = {12: "heron", 7: "otter", 30: "newt", 9: "reed"}  # by category id, in no order
WEAK = ("newt", "reed")  # boxes only
COLOURS = {12: "#d02020", 7: "#20a020", 30: "#2020d0", 9: "#e0d020"}
RUNS = ["maskrcnn-R50-wet", "opmask-R50-wet", "maskrcnn7-R50-wet"]
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}


def write_set(root: Path, train: int = 10, val: int = 5) -> None:
    """Images and annotations in the layout of scale `own`; `val` has all masks."""
    for name, count, masked in (("train", train, False), ("val", val, True)):
        rng = np.random.default_rng(count)
        (root / name).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": i, "name": n} for i, n in CLASSES.items()]
        for number in range(1, count + 1):
            _write_image(content, root / name, number, rng, masked)
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def _write_image(
    content: dict, folder: Path, number: int, rng: np.random.Generator, masked: bool
) -> None:
    """One object of each class on a plain ground, drawn one over the other."""
    width, height = 96, 64 + 16 * (number % 2)
    image = Image.new("RGB", (width, height), tuple(rng.integers(150, 230, 3).tolist()))
    draw = ImageDraw.Draw(image)
    entry = {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
    content["images"].append(entry)
    for category, name in CLASSES.items():
        w, h = (int(side) for side in rng.integers(14, 30, 2))
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        corners = _corners(category, x, y, w, h)
        draw.polygon([tuple(corner) for corner in corners], fill=COLOURS[category])
        annotation = {
            "id": len(content["annotations"]) + 1, "image_id": number, "category_id": category,
            "bbox": [x, y, w, h], "area": w * h / 2, "iscrowd": 0,
        }  # fmt: skip
        if masked or name not in WEAK:
            annotation["segmentation"] = [[float(v) for corner in corners for v in corner]]
        content["annotations"].append(annotation)
    image.save(folder / f"{number}.jpg")


def _corners(category: int, x: int, y: int, w: int, h: int) -> list[tuple[float, float]]:
    """A rectangle, a triangle, a diamond or half a rectangle."""
    return {
        12: [(x, y), (x + w, y), (x + w, y + h), (x, y + h)],
        7: [(x, y + h), (x + w / 2, y), (x + w, y + h)],
        30: [(x + w / 2, y), (x + w, y + h / 2), (x + w / 2, y + h), (x, y + h / 2)],
        9: [(x, y), (x + w, y), (x, y + h)],
    }[category]


def own_params(root: Path, **changed) -> dict:
    """params.yaml as docs/own-data.md says, at the length of scale `smoke`, from random weights."""
    params = deepcopy(PARAMS)
    smoke = params["scales"]["smoke"]
    quick = {key: smoke[key] for key in ("schedule_factor", "checkpoint_period", "config")}
    params["scales"]["own"] = deepcopy(params["scales"]["own"]) | quick | {"warm_start": {}}
    params["backbones"]["R50"] = {"resnet": 50, "weights": "none"}
    params |= {"scale": "own", "data_root": str(root), "seeds": [0], "schedule": "130k"}
    params |= {"splits": {"wet": ["heron", "otter"]}, "runs": RUNS} | changed
    write_params(params)
    return params
