"""One model, ready to train and to detect."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer
from detectron2.structures import PolygonMasks
from detectron2.utils.events import EventStorage

from benchmarks import data
from benchmarks.clock import Clock
from benchmarks.models import VARIANTS, Job, build, calm, config
from opmask.data.coco import load_json, load_training_dicts
from opmask.data.loader import build_loader
from opmask.data.polygon_masks import SharedPolygonMasks
from opmask.data.splits import resolve
from opmask.evaluation.inference import detect
from opmask.training.hooks import SafeCheckpointer

# The parts of a model; what is left of its forward pass is `other`.
PARTS = [
    ("backbone", "forward", "backbone"),
    ("proposal_generator", "forward", "RPN"),
    ("roi_heads", "label_and_sample_proposals", "RoI sampling"),
    ("roi_heads", "_forward_box", "box head"),
    ("roi_heads", "_forward_mask", "mask head"),
    ("roi_heads", "object_mask_prior", "prior"),
]


class Session:
    """Trains and detects when asked; answers are plain values for JSON."""

    def __init__(self, job: Job):
        self.job, self.iteration = job, 0
        self.manifest = data.manifest(Path(job.data) if job.data else None)
        self.cfg = config(job, self.manifest)
        self.model = build(self.cfg, tuned=VARIANTS[job.variant].tuned)
        if job.weights:
            SafeCheckpointer(self.model).load(job.weights)
        elif job.scale == "coco":
            calm(self.model)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.batches = self._batches(self.cfg)
        self.clock = Clock(job.device)
        self.watched = False

    def _batches(self, cfg: CfgNode) -> Iterator[list[dict[str, Any]]]:
        if not self.job.data:
            masks = SharedPolygonMasks if VARIANTS[self.job.variant].tuned else PolygonMasks
            return data.synthetic_batches(cfg.SOLVER.IMS_PER_BATCH, masks)
        split = resolve("voc", self.manifest.categories)
        ids = [c["id"] for c in self.manifest.categories if c["name"] in split.supervised]
        train = self.manifest.train
        dicts, _ = load_training_dicts(train.annotations, train.images, ids)
        return iter(build_loader(dicts, cfg))

    def ready(self) -> dict[str, Any]:
        """What the model is."""
        count = sum(p.numel() for p in self.model.parameters())
        settings = self.cfg.SOLVER
        return {
            "precision": settings.PRECISION,
            "batch": settings.IMS_PER_BATCH,
            "parameters_m": round(count / 1e6, 2),
        }

    def train(self, steps: int = 1) -> dict[str, float]:
        """SGD steps as in detectron2's trainer, loading included; returns the last losses."""
        self.model.train()
        for _ in range(steps):
            losses = self._step()
        return {name: loss.item() for name, loss in losses.items()}

    def _step(self) -> dict[str, torch.Tensor]:
        torch.manual_seed(self.iteration)  # every variant samples the same RoIs
        self.iteration += 1
        with self.clock("loader"):
            batch = next(self.batches)
        with EventStorage(), self.clock("other"):
            losses = self.model(batch)
        with self.clock("optimiser"):
            self.optimizer.zero_grad()
        with self.clock("backward"):
            sum(losses.values()).backward()
        with self.clock("optimiser"):
            self.optimizer.step()
        return losses

    def parts(self, steps: int = 1) -> dict[str, float]:
        """Seconds a step by part of the model, forward, and of the other things in a step."""
        if not self.watched:
            self.watched = True
            for module, name, part in PARTS:
                if hasattr(owner := getattr(self.model, module), name):
                    self.clock.watch(owner, name, part)
        self.clock.seconds.clear()
        self.train(steps)
        return {part: seconds / steps for part, seconds in self.clock.seconds.items()}

    def infer(self, images: int) -> dict[str, float]:
        """Detect on validation images, or noise, as an evaluation does; masks as RLE included."""
        self.model.eval()
        if self.job.data:
            val = self.manifest.val
            records = load_json(val.annotations)["images"][:images]
            ids = [c["id"] for c in self.manifest.categories]
            found = len(detect(self.model, self.cfg, records, val.images, ids))
        else:
            (batch, found) = (next(self.batches)[:1], 0)
            with torch.no_grad():
                for _ in range(images):
                    found += len(self.model(batch)[0]["instances"])
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return {"detections_per_image": found / images}

    def load(self, batches: int) -> dict[str, int]:
        """Read training batches and do nothing with them."""
        return {"images": sum(len(next(self.batches)) for _ in range(batches))}

    def memory(self) -> dict[str, float]:
        """Peak so far, GiB: of the GPU's memory, else of this process."""
        if self.job.device == "cuda":
            return {"gib": torch.cuda.max_memory_allocated() / 2**30}
        return {"gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
