"""One model, ready to train and to detect: here, or in a process of its own."""

import functools
import itertools
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.solver import build_optimizer
from detectron2.structures import PolygonMasks
from detectron2.utils.events import EventStorage
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from benchmarks import data
from benchmarks.variants import VARIANTS, Job, build, calm, configure
from opmask.data.coco import load_json, load_training_dicts
from opmask.data.loader import build_loader
from opmask.data.polygon_masks import SharedPolygonMasks
from opmask.evaluation.inference import detect
from opmask.training.hardware import KEEP_MEMORY
from opmask.training.hooks import SafeCheckpointer
from study.runs.jobs import training_data

# The parts of a model, by module and method; what is left of its forward pass is `other`.
PARTS = {
    "backbone": ("backbone", "forward"),
    "RPN": ("proposal_generator", "forward"),
    "RoI sampling": ("roi_heads", "label_and_sample_proposals"),
    "box head": ("roi_heads", "_forward_box"),
    "mask head": ("roi_heads", "_forward_mask"),
    "prior": ("roi_heads", "object_mask_prior"),
}
STEP = ("loader", "other", "backward", "optimiser")


class Clock(defaultdict[str, float]):
    """Seconds by part: `with clock("part")`. Nested parts do not count twice."""

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        before, start = sum(self.values()), _now()
        yield
        nested = sum(self.values()) - before
        self[part] += _now() - start - nested


def _now() -> float:
    """On a GPU when all that was begun is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Session:
    """Trains and detects when asked; what it answers are numbers, by name.

    `images` is how many images that were.
    """

    def __init__(self, job: Job):
        self.job, self.iteration = job, 0
        self.manifest = data.manifest(job.data)
        self.cfg, self.specification = configure(job, self.manifest)
        self.model = build(self.cfg, tuned=VARIANTS[job.variant].tuned)
        if job.weights:
            SafeCheckpointer(self.model).load(job.weights)
        elif job.scale == "coco":
            calm(self.model)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.batch = self.cfg.SOLVER.IMS_PER_BATCH
        self.batches = self._batches()
        self.clock, self.watched = Clock(float), False

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        if not self.job.data:
            masks = SharedPolygonMasks if VARIANTS[self.job.variant].tuned else PolygonMasks
            return itertools.repeat(data.synthetic_batch(self.batch, masks=masks))
        train = training_data(self.specification, self.manifest)
        dicts, _ = load_training_dicts(train.annotations, train.images, train.supervised_ids)
        return iter(build_loader(dicts, self.cfg))

    def ready(self) -> dict[str, Any]:
        """What the model is."""
        parameters = sum(p.numel() for p in self.model.parameters())
        about = {"precision": self.cfg.SOLVER.PRECISION, "batch": self.batch}
        return {**about, "parameters_m": round(parameters / 1e6, 2)}

    def step(self) -> dict[str, torch.Tensor]:
        """An SGD step as in detectron2's trainer, loading included; the losses."""
        self.model.train()
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

    def train(self, count: int) -> dict[str, float]:
        """Do `count` steps; peak memory so far, GiB: of the GPU's, else of this process."""
        for _ in range(count):
            self.step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
        if self.job.device == "cuda":
            peak = torch.cuda.max_memory_allocated()
        return {"images": count * self.batch, "peak_memory_gib": peak / 2**30}

    def parts(self, count: int) -> dict[str, float]:
        """Seconds of `count` steps by part of the model, forward, and of a step's other parts."""
        for part, (module, method) in ({} if self.watched else PARTS).items():
            if function := getattr(owner := getattr(self.model, module), method, None):
                setattr(owner, method, self.clock(part)(function))
        self.watched = True
        self.clock.clear()
        return {**self.train(count), **self.clock}

    def infer(self, count: int) -> dict[str, float]:
        """Detect on `count` validation images as an evaluation does; masks as RLE."""
        self.model.eval()
        val, ids = self.manifest.val, [c["id"] for c in self.manifest.categories]
        records = load_json(val.annotations)["images"][:count]
        found = detect(self.model, self.cfg, records, val.images, ids)
        return {"images": count, "detections": len(found) / count}

    def load(self, count: int) -> dict[str, float]:
        """Read `count` training batches and do nothing with them."""
        return {"images": sum(len(batch) for batch in itertools.islice(self.batches, count))}


class Worker(ProcessPoolExecutor):
    """A session in a process of its own, which ends with this context.

    Processes, because variants differ in their environment: threads, how memory is allocated.
    """

    def __init__(self, job: Job, threads: int):
        tuned = VARIANTS[job.variant].tuned and job.device == "cpu"
        memory = KEEP_MEMORY if tuned else {}
        own = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", **memory}
        super().__init__(1, env=own)
        self.job = job

    def start(self, what: str, **arguments: Any) -> Future:
        """Begin `Session.<what>(**arguments)`; its answer and `cpu_s`, the processor time."""
        return self.submit(_do, self.job, what, arguments)

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """The same, waited for. BrokenProcessPool if the process ended."""
        return self.start(what, **arguments).result()


_session = functools.cache(Session)  # of a worker's process


def _do(job: Job, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
    session, started = _session(job), time.process_time()
    answer = getattr(session, what)(**arguments)
    return {**answer, "cpu_s": time.process_time() - started}
