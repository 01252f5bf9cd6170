"""One model, ready to train and to detect: here, or in a process of its own."""

import functools
import itertools
import json
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
from benchmarks.variants import VARIANTS, Job, build, calm, config
from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from opmask.data.polygon_masks import SharedPolygonMasks
from opmask.data.splits import resolve
from opmask.evaluation.inference import detect
from opmask.training.hardware import KEEP_MEMORY
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


class Clock:
    """`with clock("part")`; nested parts do not count twice. On a GPU it waits at both ends."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._turn()
        self._stack.append(part)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def _turn(self) -> None:
        """Book the time since the last turn on the part that runs."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


class Session:
    """Trains and detects when asked; what it answers can be sent to another process."""

    def __init__(self, job: Job):
        self.job, self.iteration = job, 0
        self.manifest = data.manifest(job.data)
        self.cfg = config(job, self.manifest)
        self.model = build(self.cfg, tuned=VARIANTS[job.variant].tuned)
        if job.weights:
            SafeCheckpointer(self.model).load(job.weights)
        elif job.scale == "coco":
            calm(self.model)
        self.optimizer = build_optimizer(self.cfg, self.model)
        self.batches = self._batches()
        self.clock = Clock(job.device)
        self.watched = False

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        if not self.job.data:
            masks = SharedPolygonMasks if VARIANTS[self.job.variant].tuned else PolygonMasks
            batch = data.synthetic_batch(self.cfg.SOLVER.IMS_PER_BATCH, masks=masks)
            return itertools.repeat(batch)
        split = resolve("voc", self.manifest.categories)
        ids = [c["id"] for c in self.manifest.categories if c["name"] in split.supervised]
        train = self.manifest.train
        dicts, _ = load_training_dicts(train.annotations, train.images, ids)
        return iter(build_loader(dicts, self.cfg))

    def ready(self) -> dict[str, Any]:
        """What the model is."""
        count = sum(p.numel() for p in self.model.parameters())
        settings = self.cfg.SOLVER
        about = {"precision": settings.PRECISION, "batch": settings.IMS_PER_BATCH}
        return {**about, "parameters_m": round(count / 1e6, 2)}

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

    def train(self, count: int) -> dict[str, Any]:
        """Do `count` steps; peak memory so far, GiB: of the GPU's, else of this process."""
        for _ in range(count):
            self.step()
        if self.job.device == "cuda":
            torch.cuda.synchronize()
            return {"peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30}
        return {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}

    def parts(self) -> dict[str, Any]:
        """Seconds of a step by part of the model, forward, and of the other things in a step."""
        if not self.watched:
            self.watched = True
            for module, name, part in PARTS:
                if function := getattr(owner := getattr(self.model, module), name, None):
                    setattr(owner, name, self.clock(part)(function))
        self.clock.seconds.clear()
        self.step()
        return {"parts": dict(self.clock.seconds)}

    def infer(self, count: int) -> dict[str, Any]:
        """Detect on `count` validation images, or noise, as an evaluation does; masks as RLE."""
        self.model.eval()
        if self.job.data:
            val = self.manifest.val
            records = json.loads(val.annotations.read_bytes())["images"][:count]
            ids = [c["id"] for c in self.manifest.categories]
            found = len(detect(self.model, self.cfg, records, val.images, ids))
        else:
            batch = next(self.batches)[:1]
            with torch.no_grad():
                found = sum(len(self.model(batch)[0]["instances"]) for _ in range(count))
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return {"detections": found / count}

    def load(self, count: int) -> dict[str, Any]:
        """Read `count` training batches and do nothing with them."""
        for _ in range(count):
            next(self.batches)
        return {}


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
        self.about = self.ask("ready")

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
