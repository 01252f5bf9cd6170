"""Turns specifications into what a training needs: configs, data, hardware."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode

from opmask.config import paper_config
from opmask.data.coco import Manifest
from opmask.data.splits import resolve
from opmask.errors import UserError
from opmask.training.trainer import Hardware, TrainingData


def run_config(specification: Mapping[str, Any], manifest: Manifest, weights: str) -> CfgNode:
    """The detectron2 config of a run; the paper's own where the scale overrides nothing."""
    run = specification["run"]
    split = resolve(run["supervised"], manifest.categories, specification["splits"])
    names = [c["name"] for c in manifest.categories]
    cfg = _config(
        specification["method"],
        specification["backbone"],
        [names.index(name) for name in split.supervised],
        len(names),
        specification["config"],
    )
    cfg.MODEL.OPMASK.CLASS_NAMES = names
    cfg.MODEL.OPMASK.CATEGORY_IDS = [c["id"] for c in manifest.categories]
    cfg.SOLVER.MAX_ITER = specification["max_iter"]
    cfg.SOLVER.STEPS = tuple(specification["steps"])
    cfg.SOLVER.CHECKPOINT_PERIOD = specification["checkpoint_period"]
    cfg.SOLVER.SNAPSHOT_PERIOD = specification["snapshot_period"]
    cfg.SOLVER.PRECISION = specification["precision"]
    cfg.SEED = run["seed"]
    if weights:
        cfg.MODEL.WEIGHTS = weights
    return cfg


def warm_start_config(
    phase: Mapping[str, Any],
    scale: Mapping[str, Any],
    backbone: Mapping[str, Any],
    manifest: Manifest,
) -> CfgNode:
    """The config of one phase of the warm start: the scale's, then the phase's own settings."""
    overrides = {**scale["config"], **phase}
    cfg = _config({"mask_head": False}, backbone, [], len(manifest.categories), overrides)
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.CHECKPOINT_PERIOD = scale["checkpoint_period"]
    cfg.SOLVER.PRECISION = scale["precision"]
    cfg.SEED = 0  # one warm start, whatever the seeds of the runs
    return cfg


def _config(method, backbone, supervised, num_classes, overrides) -> CfgNode:  # noqa: ANN001
    try:
        cfg = paper_config(
            method=method,
            backbone=backbone,
            supervised=supervised,
            num_classes=num_classes,
            overrides=overrides,
        )
    except (KeyError, AssertionError, ValueError) as error:
        raise UserError(f"params.yaml: config: {error}") from error
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return cfg


def training_data(specification: Mapping[str, Any], manifest: Manifest) -> TrainingData:
    """The manifest's training images, with the masks of the run's supervised classes."""
    supervised = specification["run"]["supervised"]
    split = resolve(supervised, manifest.categories, specification["splits"])
    ids = tuple(c["id"] for c in manifest.categories if c["name"] in split.supervised)
    train = manifest.train
    return TrainingData(train.annotations, train.images, ids, specification["held_out"])


def hardware(settings: Mapping[str, Any]) -> Hardware:
    """`params.yaml: hardware`, with `auto` replaced by what this machine has.

    Raises:
        UserError: more GPUs asked for than there are.
    """
    present = torch.cuda.device_count()
    gpus = present if settings["gpus"] == "auto" else int(settings["gpus"])
    if gpus > present:
        raise UserError(f"params.yaml: hardware.gpus: {gpus} asked for, {present} present")
    workers = int(settings["workers"]) if gpus else 0
    rest = {key: settings[key] for key in ("machines", "machine_rank", "dist_url")}
    return Hardware(gpus=gpus, workers=workers, **rest)
