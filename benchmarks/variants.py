"""The models that are compared, each built as its own trainer would.

`opmask` is as trained by this project, `maskrcnn7` the same without the prior. `detectron2` is its
own StandardROIHeads with the same layers and our settings, `detectron2-stock` without these.
`plain` is a plain float32 transcription of the method.
"""

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from benchmarks import plain_opmask  # noqa: F401  registers its heads
from opmask.data.coco import Manifest
from opmask.model.cpu import use_matrix_mask_layers, use_separable_roi_align
from opmask.model.precision import use_precision
from study.runs.jobs import run_config
from study.spec.params import load_params
from study.spec.run import parse_run, specification


@dataclass(frozen=True)
class Variant:
    """A method of params.yaml on whose heads, in which precision.

    heads: of _HEADS.
    precision: "" is what the benchmark was asked for.
    tuned: channels_last, the layers of `opmask.training` and, on CPU, memory that is kept.
    """

    method: str
    heads: str = "ours"
    precision: str = ""
    tuned: bool = True


VARIANTS = {
    "opmask": Variant("opmask"),
    "maskrcnn7": Variant("maskrcnn7"),  # the control: the same heads without the prior
    "maskrcnn": Variant("maskrcnn"),
    "fasterrcnn": Variant("fasterrcnn"),
    "opmask-fp32": Variant("opmask", precision="fp32"),
    "detectron2": Variant("maskrcnn7", heads="detectron2"),
    "detectron2-stock": Variant("maskrcnn7", "detectron2", "fp32", tuned=False),
    "plain": Variant("opmask", "plain", "fp32", tuned=False),
}
_PLAIN_PARTS = {"ROI_BOX_HEAD": "PlainBoxHead", "ROI_MASK_HEAD": "MaskRCNNConvUpsampleHead"}
_HEADS = {
    "ours": {},
    "detectron2": _PLAIN_PARTS | {"ROI_HEADS": "StandardROIHeads", "ROI_BOX_HEAD": "PooledBoxHead"},
    "plain": _PLAIN_PARTS | {"ROI_HEADS": "PlainOPMaskHeads"},
}


@dataclass(frozen=True)
class Job:
    """One model to build; plain values, so that another process can be told."""

    variant: str
    backbone: str = "R50"
    scale: str = "miniature"
    device: str = "cpu"
    precision: str = ""
    batch: int = 0
    data: str = ""  # folder of miniature images; "" for noise of COCO's size
    weights: str = ""


def configure(job: Job, manifest: Manifest) -> tuple[CfgNode, dict[str, Any]]:
    """The run's own detectron2 config at the scale of `job`, with the heads of its variant; the
    run's specification.

    Raises:
        UserError: the scale or backbone is unknown.
    """
    params: dict[str, Any] = {**load_params(), "scale": job.scale}
    variant = VARIANTS[job.variant]
    spec = specification(parse_run(f"{variant.method}-{job.backbone}-voc", 0, params), params)
    cfg = run_config(spec, manifest, job.weights)
    cfg.MODEL.DEVICE = job.device
    if job.device == "cpu" or torch.cuda.device_count() < 2:  # SyncBN needs several GPUs
        cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    use_heads(cfg, variant.heads)
    cfg.SOLVER.PRECISION = variant.precision or job.precision or cfg.SOLVER.PRECISION
    cfg.SOLVER.IMS_PER_BATCH = job.batch or cfg.SOLVER.IMS_PER_BATCH
    cfg.SOLVER.BASE_LR = 1e-4  # the models are to stay what they are while they are timed
    return cfg, spec


def use_heads(cfg: CfgNode, heads: str) -> None:
    """Let `cfg` name the heads of a `Variant.heads`."""
    for part, name in _HEADS[heads].items():
        cfg.MODEL[part].NAME = name


def build(cfg: CfgNode, *, tuned: bool) -> torch.nn.Module:
    """The model of `cfg`; `tuned` as `opmask.training.trainer` builds it."""
    torch.manual_seed(0)
    model = build_model(cfg)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
        if cfg.MODEL.DEVICE == "cpu":
            use_separable_roi_align(model)
            use_matrix_mask_layers(model)
    use_precision(model, cfg.SOLVER.PRECISION)
    return model


def calm(model: torch.nn.Module) -> None:
    """Let a deep frozen network without ImageNet's weights not overflow."""
    for name, scale in model.named_buffers():
        if name.startswith("backbone.bottom_up") and name.endswith("conv3.norm.weight"):
            scale.fill_(0.2)
