"""detectron2 configurations of a scale, and of the phases of its warm start.

Apart from the runs' (`jobs`), so that a warm start does not depend on how classes are split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode

from opmask.data.coco import Manifest
from opmask.errors import UserError
from opmask.model.config import paper_config


def warm_start_config(
    phase: Mapping[str, Any],
    scale: Mapping[str, Any],
    backbone: Mapping[str, Any],
    manifest: Manifest,
) -> CfgNode:
    """The config of one phase of the warm start: the scale's, then the phase's own settings."""
    overrides = {**scale["config"], **phase}
    cfg = scale_config({"mask_head": "none"}, backbone, [], len(manifest.categories), overrides)
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.CHECKPOINT_PERIOD = scale["checkpoint_period"]
    cfg.SOLVER.PRECISION = scale["precision"]
    cfg.SEED = 0  # one warm start, whatever the seeds of the runs
    return cfg


def scale_config(
    method: Mapping[str, Any],
    backbone: Mapping[str, Any],
    supervised: Sequence[int],
    num_classes: int,
    overrides: Mapping[str, Any],
) -> CfgNode:
    """The paper's configuration with a scale's `overrides`, on a GPU if there is one.

    Raises:
        UserError: no such key, or a value of another type.
    """
    try:
        cfg = paper_config(
            method=method,
            backbone=backbone,
            supervised=supervised,
            num_classes=num_classes,
            overrides=overrides,
        )
    except (KeyError, AssertionError, ValueError) as error:
        raise UserError(f"config of the scale or the method: {error}") from error
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return cfg
