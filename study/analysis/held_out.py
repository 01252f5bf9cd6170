"""Snapshots of a training measured on images held out of it (section 4.5): ground truth, curves."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.splits import resolve
from opmask.errors import UserError
from opmask.integrity import is_sealed, verified
from study.spec.run import Run

# A snapshot's measures: iterations done; classes (novel | supervised | all); task (segm | bbox);
# metric (AP | AP50); value in percent, NaN without objects; low, high (95 %, bootstrap over the
# held-out images; NaN but for mask AP).
CURVE = ["iteration", "classes", "task", "metric", "value", "low", "high"]
RUN = ["method", "backbone", "supervised", "schedule"]
FILE = "curve.csv"  # of one run, columns CURVE

Groups = Mapping[str, Sequence[int]]


def class_groups(supervised: str, categories: Sequence[Mapping], custom: Mapping) -> Groups:
    """Dataset ids of the novel, supervised and all classes of a split, empty groups left out."""
    split = resolve(supervised, categories, custom)
    names = {"novel": split.novel, "supervised": split.supervised}
    ids = {group: [c["id"] for c in categories if c["name"] in n] for group, n in names.items()}
    return {k: v for k, v in ids.items() if v} | {"all": [c["id"] for c in categories]}


def restrict(dataset: Mapping[str, Any], image_ids: Collection[int], task: str) -> dict[str, Any]:
    """The part of a cleaned training json on `image_ids` that `evaluate` can measure `task` on.

    An object without a usable mask is no ground truth for masks, but a detection of it is no error
    either: its box becomes a crowd region, in which detections count neither way.
    """
    wanted = set(image_ids)
    images = [image for image in dataset["images"] if image["id"] in wanted]
    if not images or len(images) < len(wanted):
        raise UserError(f"held_out.json: {len(wanted)} images, {len(images)} of them in the data")
    annotations = [a for a in dataset["annotations"] if a["image_id"] in wanted]
    return {**dataset, "images": images, "annotations": [_truth(a, task) for a in annotations]}


def _truth(annotation: Mapping[str, Any], task: str) -> dict[str, Any]:
    x, y, w, h = annotation["bbox"]
    found = {**annotation, "area": annotation.get("area") or w * h}
    if task == "segm" and "segmentation" not in annotation:
        box = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        found |= {"segmentation": box, "iscrowd": 1}
    return found


def matches_path(folder: Path, iteration: int) -> Path:
    """Where one snapshot's mask matches are kept, for paired intervals; `folder` is the run's."""
    return folder / f"segm_{iteration:07d}.npz"


def read_curves(search_dir: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Curves of all search runs: method, backbone, supervised, schedule, seed, key, then CURVE."""
    frames = [pd.DataFrame(columns=[*RUN, "seed", "key", *CURVE])]
    for run in runs:
        path = search_dir / run.key / FILE
        there = path.is_file() or is_sealed(path.parent)  # if missing there, that is damage
        if there and len(frame := pd.read_csv(verified(path))):
            about = {name: getattr(run, name) for name in (*RUN, "seed", "key")}
            frames.append(frame.assign(**about)[frames[0].columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)
