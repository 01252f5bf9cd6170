"""detectron2 configuration of the paper: `add_opmask_config(cfg)` and `paper_config(...)`.

Values that all runs share are in `paper.yaml`.
`load_config(path)` reads what a training left of one.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from opmask.errors import UserError
from opmask.model import weights

_PAPER = Path(__file__).with_name("paper.yaml")
CONTROLS = frozenset(  # switches of a method that are, in capitals, keys of MODEL.OPMASK
    ("prior_kind", "prior_kind_at_test", "prior_min_max", "prior_combined", "class_gradients",
     "mask_rois")
)  # fmt: skip
COMPONENTS = re.compile(r"opmask\.rivals\.\w+", re.ASCII)  # modules that a method may name
NO_MASK_HEAD = "none"  # `mask_head` of a method that finds boxes only


def add_opmask_config(cfg: CfgNode) -> None:
    """Add OPMask's keys, with the paper's values, to a detectron2 config in place."""
    cfg.MODEL.OPMASK = CfgNode()
    # Output channels of the box head's 3x3 convolutions, on 7x7 RoIs (authors' code).
    cfg.MODEL.OPMASK.BOX_CONV_DIMS = [512, 1024, 1024, 1024]
    # Add the object mask prior to the mask features (eq. 2). False: "our Mask R-CNN".
    cfg.MODEL.OPMASK.PRIOR = True
    # Let mask gradients reach the box head through the prior (section 4.4).
    cfg.MODEL.OPMASK.PRIOR_GRADIENTS = True
    # Controls: what the prior is, of `opmask.model.priors.PRIORS`; "": at test the same.
    cfg.MODEL.OPMASK.PRIOR_KIND = "cam"
    cfg.MODEL.OPMASK.PRIOR_KIND_AT_TEST = ""
    # Scale each prior to [0, 1] (authors' code).
    cfg.MODEL.OPMASK.PRIOR_MIN_MAX = True
    # How it enters the mask features, of `opmask.model.roi_heads.COMBINED`.
    cfg.MODEL.OPMASK.PRIOR_COMBINED = "add"
    # Let mask gradients reach the classifier's weights, too (authors' code: no).
    cfg.MODEL.OPMASK.CLASS_GRADIENTS = False
    # On what the mask head learns: "proposals" that are positive, or "gt", ground-truth boxes only.
    cfg.MODEL.OPMASK.MASK_ROIS = "proposals"
    # Module that registers what else the method is made of (`add_components`); "": nothing.
    cfg.MODEL.OPMASK.COMPONENTS = ""
    # Contiguous ids, 0-based, of the classes whose masks supervise the mask head.
    cfg.MODEL.OPMASK.SUPERVISED_CLASSES = list(range(80))
    # Names and category ids of the data set's classes, by contiguous id; left with the trained
    # model for whoever uses it (`opmask.predict`), read by nothing in training.
    cfg.MODEL.OPMASK.CLASS_NAMES = []
    cfg.MODEL.OPMASK.CATEGORY_IDS = []
    # Backbone `build_timm_fpn_backbone` (`opmask.model.backbones`): timm's name of the model.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = ""
    cfg.MODEL.TIMM.NORM = "FrozenBN"  # or "BN", which learns
    # The stand-in for ImageNet (`opmask.training.warm_start`), unused in the paper's runs.
    cfg.MODEL.WARM_START = CfgNode()
    cfg.MODEL.WARM_START.CROP_SIZE = 64  # pixels
    cfg.MODEL.WARM_START.JITTERED_PER_BOX = 4
    cfg.MODEL.WARM_START.NEGATIVES_PER_IMAGE = 12
    # At least this share of the images that are learned from has masks of supervised classes; those
    # that do are repeated for it (`opmask.data.loader.masked_repeats`). 0: as they come; 1: no
    # others.
    cfg.DATALOADER.MASKED_SHARE = 0.0
    # What small data sets need beside flips, off in the paper (`opmask.data.augmentation`).
    cfg.INPUT.SCALE_JITTER = []  # [smallest, largest] scale
    cfg.INPUT.COLOUR_JITTER = 0.0
    cfg.SOLVER.SNAPSHOT_PERIOD = 0  # iterations between weights that are kept; 0: only the last
    cfg.TEST.IMS_PER_BATCH = 1  # images of unequal size are padded to the largest of a batch
    # Options for speed (`opmask.training.options`), off until a GPU has shown what they gain.
    cfg.SOLVER.COMPILE_BACKBONE = False
    cfg.SOLVER.FUSED_STEP = False
    cfg.SOLVER.PRECISION = "fp32"  # or "bf16": autocast of the forward pass


def add_components(cfg: CfgNode, module: str) -> None:
    """Register the components of `module`, one of `opmask.rivals`, with detectron2 and add their
    keys to `cfg`: what its `add_config(cfg)` adds, if it has one.

    A method's components are imported only where it is used, so that another method's results do
    not rest on them.

    Raises:
        ValueError: it is no module of `opmask.rivals`, the only ones that a file may name.
    """
    if not COMPONENTS.fullmatch(module):
        raise ValueError(f"components: {module!r} is no module of opmask.rivals")
    try:
        components = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"components: there is no module {module}") from error
    if hasattr(components, "add_config"):
        components.add_config(cfg)
    cfg.MODEL.OPMASK.COMPONENTS = module


def load_config(path: Path | str) -> CfgNode:
    """A run's `config.yaml` over the present defaults, OPMask's keys included.

    `MODEL.DEVICE` is this machine's GPU, if there is one, wherever the run was trained.

    Nothing in the file is ever run and nothing but `opmask.rivals` imported, unlike by detectron2's
    own `merge_from_file`, which obeys YAML's tags for Python objects. Keys that an older or newer
    version had are kept.

    Raises:
        UserError: it cannot be read, is no configuration, or has such a tag.
    """
    cfg = get_cfg()
    add_opmask_config(cfg)
    cfg.set_new_allowed(True)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not content:
            raise ValueError("empty")
        if module := content.get("MODEL", {}).get("OPMASK", {}).get("COMPONENTS"):
            add_components(cfg, module)
        cfg.merge_from_other_cfg(CfgNode(content))
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError),
        *(RecursionError, yaml.YAMLError),
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is no configuration of a training ({reason})") from error
    cfg.set_new_allowed(False)
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return cfg


def paper_config(
    *,
    method: Mapping[str, Any],
    backbone: Mapping[str, Any],
    supervised: Sequence[int],
    num_classes: int,
    overrides: Mapping[str, Any] | None = None,
) -> CfgNode:
    """The config of one run of the paper on COCO, before its schedule.

    Args:
        method: named switches, as an entry of `methods` in paper.yaml: `mask_head`, a registered
            `opmask.model.roi_heads.PriorMaskHead` or "none", `mask_convs`, `prior`,
            `mask_gradients`, those of `CONTROLS`, `components` (`add_components`), `roi_heads`, the
            registered RoI heads, and `config`, detectron2 keys and values.
        backbone: an entry of `backbones` in paper.yaml: `resnet` (its depth) or `timm` (a name),
            `weights`, `sha256`.
        supervised: contiguous ids of the classes with masks.
        num_classes: number of classes with boxes.
        overrides: detectron2 keys and values that a scale changes, over the method's.

    Raises:
        KeyError: an override or the method names a key that detectron2 does not have;
        ValueError: the method's components are not there.
    """
    cfg = get_cfg()
    add_opmask_config(cfg)
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(_PAPER.read_text(encoding="utf-8"))))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    _set_backbone(cfg, backbone)
    _set_method(cfg, method)
    cfg.MODEL.OPMASK.SUPERVISED_CLASSES = list(supervised)
    for settings in (method.get("config", {}), overrides or {}):
        cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


def _set_method(cfg: CfgNode, method: Mapping[str, Any]) -> None:
    """The switches of `OPMaskROIHeads`, and what a method has instead."""
    if "components" in method:
        add_components(cfg, method["components"])
    cfg.MODEL.ROI_HEADS.NAME = method.get("roi_heads", cfg.MODEL.ROI_HEADS.NAME)
    cfg.MODEL.MASK_ON = method["mask_head"] != NO_MASK_HEAD
    if cfg.MODEL.MASK_ON:
        cfg.MODEL.ROI_MASK_HEAD.NAME = method["mask_head"]
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = method.get("mask_convs", 0)
    cfg.MODEL.OPMASK.PRIOR = method.get("prior", False)
    cfg.MODEL.OPMASK.PRIOR_GRADIENTS = method.get("mask_gradients", False)
    for key in CONTROLS & method.keys():
        cfg.MODEL.OPMASK[key.upper()] = method[key]


def _set_backbone(cfg: CfgNode, definition: Mapping[str, Any]) -> None:
    """The bottom-up network with its initial weights, and the input that these expect."""
    cfg.MODEL.WEIGHTS = weights.address(definition)
    if "timm" in definition:
        from opmask.model.backbones import pixel_statistics

        cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
        cfg.MODEL.TIMM.NAME = definition["timm"]
        cfg.INPUT.FORMAT = "RGB"
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = pixel_statistics(definition["timm"])
        return
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = definition["resnet"]
    if weights.has_torchvision_layout(cfg.MODEL.WEIGHTS):
        cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
        cfg.INPUT.FORMAT = "RGB"
        cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
        cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
