"""Turns a run's specification into what its training needs: configuration and data."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from opmask.data.coco import Manifest
from opmask.data.splits import resolve
from opmask.training.trainer import TrainingData
from study.runs.configs import scale_config


def run_config(specification: Mapping[str, Any], manifest: Manifest, weights: str) -> CfgNode:
    """The detectron2 config of a run; the paper's own where the scale overrides nothing."""
    run = specification["run"]
    split = resolve(run["supervised"], manifest.categories, specification["splits"])
    names = [c["name"] for c in manifest.categories]
    cfg = scale_config(
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


def training_data(specification: Mapping[str, Any], manifest: Manifest) -> TrainingData:
    """The manifest's training images, with the masks of the run's supervised classes."""
    supervised = specification["run"]["supervised"]
    split = resolve(supervised, manifest.categories, specification["splits"])
    ids = tuple(c["id"] for c in manifest.categories if c["name"] in split.supervised)
    train = manifest.train
    return TrainingData(train.annotations, train.images, ids, specification["held_out"])
