"""A trained run as it lies on disk: configuration, weights and the classes it knows."""

from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode

from opmask.errors import UserError
from opmask.integrity import verified
from opmask.model.config import load_config
from opmask.training.files import CONFIG, FINAL


@dataclass(frozen=True)
class Trained:
    """What training left of a run; `class_names` and `category_ids` by contiguous class id."""

    cfg: CfgNode
    weights: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]


def find_trained(run: Path, device: str = "auto") -> Trained:
    """The run at `run`: its folder, or a file of weights in it or in a folder below it.

    device: where to build the model, "auto" (a GPU if there is one) or what torch calls it.

    Raises:
        UserError: a file is missing or damaged, the configuration cannot be read or does not name
            the classes, or there is no such device.
    """
    if not run.exists():
        raise UserError(f"{run}: no such run; give a folder with {CONFIG} and {FINAL}")
    weights = run / FINAL if run.is_dir() else run
    folders = [weights.parent, weights.parent.parent]  # snapshots lie in a folder of their own
    config = next((f / CONFIG for f in folders if (f / CONFIG).is_file()), None)
    if config is None:
        raise UserError(f"{weights.parent}: has no {CONFIG}; a finished training leaves one")
    if not weights.is_file():
        there = ", ".join(sorted(p.name for p in run.glob("*.pth"))) or "no .pth file"
        raise UserError(f"{weights}: no such file, the training may not be over; there is {there}")
    cfg = load_config(verified(config))
    cfg.MODEL.DEVICE = _device(device)
    names, ids = cfg.MODEL.OPMASK.CLASS_NAMES, cfg.MODEL.OPMASK.CATEGORY_IDS
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if not len(names) == len(ids) == classes:
        raise UserError(
            f"{config}: MODEL.OPMASK.CLASS_NAMES and CATEGORY_IDS must list the {classes} classes "
            "in the order of training; a run of an older version lacks them, write them in"
        )
    return Trained(cfg, weights, tuple(names), tuple(ids))


def _device(name: str) -> str:
    present = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if present else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter by torch built without CUDA
        known = "auto, cpu" + (", cuda" if present else "; no GPU is found")
        raise UserError(f"device '{name}' cannot be used; there are {known}") from error
    return name
