"""One model as its own trainer would build it, ready to train.

VARIANTS are compared, or methods by their names in paper.yaml: `opmask` is as trained by this
project, `maskrcnn7` the same without the prior. `detectron2` is its own StandardROIHeads with the
same layers and our settings, `detectron2-stock` without these. `plain` is a plain float32
transcription of the method.
"""

import itertools
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from benchmarks import plain_opmask  # noqa: F401  registers its heads
from opmask.data.coco import ImageSet, Manifest, load_categories, load_training_dicts
from opmask.data.loader import build_loader
from opmask.data.polygon_masks import SharedPolygonMasks
from opmask.data.splits import COCO_CLASSES
from opmask.miniature.build import build as build_miniature
from opmask.model.cpu import use_matrix_mask_layers, use_separable_roi_align
from opmask.model.precision import use_precision
from opmask.training.hooks import SafeCheckpointer
from study.runs.jobs import run_config, training_data
from study.spec.params import load_params
from study.spec.run import parse_run, specification

HEIGHT, WIDTH, OBJECTS = 800, 1066, 8  # of a synthetic COCO image
_PLAIN = {"ROI_BOX_HEAD": "PlainBoxHead", "ROI_MASK_HEAD": "MaskRCNNConvUpsampleHead"}
HEADS: dict[str, dict[str, str]] = {
    "ours": {},
    "detectron2": _PLAIN | {"ROI_HEADS": "StandardROIHeads", "ROI_BOX_HEAD": "PooledBoxHead"},
    "plain": _PLAIN | {"ROI_HEADS": "PlainOPMaskHeads"},
}


class Variant(NamedTuple):
    """A method of params.yaml on some HEADS. precision: "" is what the benchmark was asked for.
    tuned: channels_last, the layers of `opmask.training` and, on CPU, memory that is kept."""

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
    "detectron2-stock": Variant("maskrcnn7", "detectron2", "fp32", tuned=False),
    "plain": Variant("opmask", "plain", "fp32", tuned=False),
}


def variant(name: str) -> Variant:
    """One of VARIANTS, or a method of paper.yaml on our heads."""
    return VARIANTS.get(name) or Variant(name)


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

    def config(self, manifest: Manifest) -> tuple[CfgNode, dict[str, Any]]:
        """The run's own detectron2 config at this scale, with the heads of its variant; the run's
        specification. UserError if scale or backbone is unknown."""
        params, own = {**load_params(), "scale": self.scale}, variant(self.variant)
        spec = specification(parse_run(f"{own.method}-{self.backbone}-voc", 0, params), params)
        cfg = run_config(spec, manifest, self.weights)
        cfg.MODEL.DEVICE = self.device
        if self.device == "cpu" or torch.cuda.device_count() < 2:  # SyncBN needs several GPUs
            cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
        use_heads(cfg, own.heads)
        cfg.SOLVER.PRECISION = own.precision or self.precision or cfg.SOLVER.PRECISION
        cfg.SOLVER.IMS_PER_BATCH = self.batch or cfg.SOLVER.IMS_PER_BATCH
        cfg.SOLVER.BASE_LR = 1e-4  # the models are to stay what they are while they are timed
        return cfg, spec

    def manifest(self) -> Manifest:
        """Of the images in `data`, or of COCO's classes alone."""
        train, val = (
            ImageSet(Path(self.data, "annotations", f"instances_{s}.json"), Path(self.data, s), {})
            for s in ("train", "val")
        )
        if self.data:
            return Manifest("miniature", load_categories(train.annotations), train, val)
        categories = [{"id": k, "name": name} for k, name in enumerate(COCO_CLASSES, 1)]
        return Manifest("coco", categories, train, val)


def use_heads(cfg: CfgNode, heads: str) -> None:
    """Let `cfg` name some of HEADS."""
    for part, name in HEADS[heads].items():
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


class Session:
    """Trains when asked; what it answers are numbers by name, `images` how many."""

    def __init__(self, job: Job):
        self.job, self.iteration, self.manifest = job, 0, job.manifest()
        self.cfg, self.specification = job.config(self.manifest)
        self.batch = self.cfg.SOLVER.IMS_PER_BATCH
        self.model = build(self.cfg, tuned=variant(job.variant).tuned)
        if job.weights:
            SafeCheckpointer(self.model).load(job.weights)
        elif job.scale == "coco":  # a deep frozen network without ImageNet's weights overflows
            for name, scale in self.model.named_buffers():
                if name.startswith("backbone.bottom_up") and name.endswith("conv3.norm.weight"):
                    scale.fill_(0.2)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.batches = self._batches()

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        if not self.job.data:
            masks = SharedPolygonMasks if variant(self.job.variant).tuned else PolygonMasks
            return itertools.repeat(synthetic_batch(self.batch, masks=masks))
        train = training_data(self.specification, self.manifest)
        dicts, _ = load_training_dicts(train.annotations, train.images, train.supervised_ids)
        return iter(build_loader(dicts, self.cfg))

    def ready(self) -> dict[str, Any]:
        """What the model is."""
        parameters = round(sum(p.numel() for p in self.model.parameters()) / 1e6, 2)
        precision = self.cfg.SOLVER.PRECISION
        return {"precision": precision, "batch": self.batch, "parameters_m": parameters}

    def step(self) -> dict[str, torch.Tensor]:
        """An SGD step as in detectron2's trainer, loading included; the losses."""
        self.model.train()
        torch.manual_seed(self.iteration)  # every variant samples the same RoIs
        self.iteration += 1
        with EventStorage():
            losses = self.model(next(self.batches))
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()
        return losses

    def train(self, count: int) -> dict[str, float]:
        """Do `count` steps; peak memory so far, GiB: of the GPU's, else of this process."""
        for _ in range(count):
            self.step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
        if self.job.device == "cuda":
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        return {"images": count * self.batch, "peak_memory_gib": peak / 2**30}

    @torch.no_grad()
    def detect(self, count: int) -> dict[str, float]:
        """Detections with masks on `count` batches, loading included."""
        self.model.eval()
        for _ in range(count):
            self.model(
                [{k: v for k, v in one.items() if k != "instances"} for one in next(self.batches)]
            )
        return {"images": count * self.batch}


def miniature_images(settings: dict[str, Any], folder: Path) -> None:
    """Build some images like those of a scale's `data` in params.yaml; the same every time."""
    own = {key: settings[key] for key in ("seed", "image_size")}
    sizes = {"train_images": 128, "val_images": 64, "min_train_instances": 0}
    build_miniature(folder, **own, **sizes, min_val_instances=0, progress=False)


def synthetic_batch(
    images: int, seed: int = 0, masks: type[PolygonMasks] = PolygonMasks
) -> list[dict[str, Any]]:
    """`images` model inputs: uint8 noise (3, 800, 1066), boxes, classes, one polygon each."""
    rng = np.random.default_rng(seed)
    batch = []
    for number in range(images):
        corner = rng.uniform(0, [WIDTH - 300, HEIGHT - 300], (OBJECTS, 2))
        boxes = np.hstack([corner, corner + rng.uniform(30, 300, (OBJECTS, 2))])
        instances = Instances(
            (HEIGHT, WIDTH),
            gt_boxes=Boxes(torch.from_numpy(boxes).float()),
            gt_classes=torch.from_numpy(rng.integers(0, 80, OBJECTS)),
            gt_masks=masks([[np.array([x0, y0, x1, y0, x1, y1])] for x0, y0, x1, y1 in boxes]),
        )
        pixels = torch.from_numpy(rng.integers(0, 255, (3, HEIGHT, WIDTH), np.uint8))
        size = {"height": HEIGHT, "width": WIDTH, "image_id": number}
        batch.append({"image": pixels, "instances": instances, **size})
    return batch
