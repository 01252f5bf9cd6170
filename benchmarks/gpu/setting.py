"""What the parts share: where they run, images to run on, and how precise a GPU computes."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from benchmarks.session import Job
from opmask.data.coco import Manifest
from opmask.miniature.build import build as build_miniature
from study.spec.params import load_params

Row = dict[str, Any]
TRAININGS = "trainings"  # folder, of one part

# `SOLVER.PRECISION`, and whether convolutions and products of matrices take TF32 where that is
# fp32: ten bits instead of 23. PyTorch's default lets convolutions: what `precision: fp32` trains.
PRECISIONS = {
    "fp32": ("fp32", False, False),
    "default": ("fp32", True, False),
    "tf32": ("fp32", True, True),
    "bf16": ("bf16", True, False),
}


def use(precision: str) -> str:
    """Set this process to one of PRECISIONS; its `SOLVER.PRECISION`."""
    name, *tf32 = PRECISIONS[precision]
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    return name


def relative(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference by that of the reference."""
    return float((found - reference).norm() / reference.norm().clamp_min(1e-12))


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """By parameter, float32 on the CPU."""
    named = model.named_parameters()
    return {name: p.grad.float().cpu() for name, p in named if p.grad is not None}


class FullySampled(Job):
    """Draws no RoIs or anchors, all are taken; its backbone learns as the paper's does."""

    def config(self, manifest: Manifest) -> tuple[CfgNode, Row]:
        """As of any `Job`."""
        cfg, specification = super().config(manifest)
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 4096
        cfg.MODEL.BACKBONE.FREEZE_AT = 2
        return cfg, specification


@dataclass(frozen=True)
class Setting:
    """`device` cpu or cuda, `scale` of what is timed, `folder` for results and images."""

    device: str
    scale: str
    folder: Path

    @property
    def on_gpu(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device == "cuda"

    @property
    def batches(self) -> tuple[int, ...]:
        """Images a step of what is timed: the paper's on one GPU, and its share of one of eight."""
        return (16, 2) if self.on_gpu else (1,)

    def images(self, size: int = 160) -> Path:
        """Folder of 16 drawn training images, `size` pixels square."""
        if not (folder := self.folder / f"images{size}").exists():
            sizes = {"train_images": 16, "val_images": 1, "image_size": size, "seed": 0}
            least = {"min_train_instances": 0, "min_val_instances": 0}
            build_miniature(folder, **sizes, **least, progress=False)
        return folder

    def small_job(self, batch: int, device: str = "cpu") -> FullySampled:
        """A model to compare."""
        data = str(self.images())
        return FullySampled("opmask", "R50", "smoke", device, "fp32", batch, data)

    def timed_job(self, variant: str, precision: str, batch: int, backbone: str = "R50") -> Job:
        """A model to time; sets this process to the precision."""
        drawn = load_params()["scales"][self.scale]["data"]["kind"] == "miniature"
        about = (variant, backbone, self.scale, self.device, use(precision), batch)
        return Job(*about, str(self.images()) if drawn else "")

    def seconds(self, action: Callable[[], object], count: int) -> float:
        """Of a call of `action`, after one that does not count."""
        for number in range(count + 1):
            if number < 2:
                self.synchronise()
                started = time.perf_counter()
            action()
        self.synchronise()
        return (time.perf_counter() - started) / count

    def synchronise(self) -> None:
        """Wait until the GPU has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def attempt(self, about: Row, measure: Callable[[], Row]) -> Row:
        """`about` with what `measure` returns, or with the `error`: too little memory, say."""
        try:
            return {**about, **measure()}
        except Exception as error:  # the next measurement may do
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return {**about, "error": reason[:300]}
        finally:
            gc.collect()
            torch.cuda.empty_cache()
