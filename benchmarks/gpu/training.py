"""Parts `resume` and `nccl`: trainings by the project's own trainer, compared by their weights."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.setting import TRAININGS, Row, Setting, gradients_of, relative, use
from benchmarks.session import Session
from opmask.errors import Terminated
from opmask.training import trainer
from opmask.training.hardware import Hardware
from opmask.training.hooks import SeedEveryIteration
from study.runs.jobs import training_data

LENGTH = 6  # iterations
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Sharing(Hardware):
    """Ranks that share one device, over gloo: NCCL wants a GPU for each."""

    on: str = "cpu"

    @property
    def device(self) -> str:
        """Of all."""
        return self.on


def resume(setting: Setting) -> Iterator[Row]:
    """Trained again, and with SIGTERM halfway, against trained once: by PyTorch's default, then
    with deterministic algorithms, as all that training needs of a CPU are."""
    use("default")
    hardware = Hardware(gpus=int(setting.on_gpu), workers=2 * setting.on_gpu)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # for the second round
    for strict in (False, True) if setting.on_gpu else (False,):
        torch.use_deterministic_algorithms(strict, warn_only=True)
        once = _train(setting, hardware, f"once-{strict}")
        again = _train(setting, hardware, f"again-{strict}")
        yield {"deterministic": strict, "what": "again", **distance(again, once)}
        with _terminated_at(LENGTH // 2), suppress(Terminated):
            _train(setting, hardware, f"resumed-{strict}")
        checkpoint = _work(setting, f"resumed-{strict}") / "last_checkpoint"
        about = {"deterministic": strict, "what": "resumed", "from": checkpoint.read_text()}
        resumed = _train(setting, hardware, f"resumed-{strict}", begun=True)
        yield {**about, **distance(resumed, once)}


def nccl(setting: Setting) -> Iterator[Row]:
    """Gradients with DistributedDataParallel over one rank, against those without; weights of two
    ranks that share a device, and of a rank a GPU, against one process's."""
    use("fp32")
    backend = "nccl" if setting.on_gpu else "gloo"
    yield setting.attempt({"what": f"1 rank, {backend}"}, partial(_one_rank, setting, backend))
    two = Sharing(processes=2, on=setting.device)
    ways: dict[str, tuple[Hardware, str]] = {"2 ranks on one device, gloo": (two, "BN")}
    if setting.on_gpu:
        ways["2 ranks on one device, gloo, SyncBN"] = (two, "SyncBN")
    if setting.on_gpu and torch.cuda.device_count() > 1:
        ways["2 ranks, nccl, SyncBN"] = (Hardware(gpus=2), "SyncBN")
    one = _train(setting, Hardware(gpus=int(setting.on_gpu)), "one")
    for what, (hardware, norm) in ways.items():
        weights = partial(_train, setting, hardware, what, norm)
        yield setting.attempt({"what": what}, lambda weights=weights: distance(weights(), one))


def _train(
    setting: Setting, hardware: Hardware, name: str, norm: str = "BN", begun: bool = False
) -> Tensors:
    """The weights that a short training ends with, from its beginning unless it has `begun`."""
    job = setting.small_job(batch=2)
    manifest = job.manifest()
    cfg, specification = job.config(manifest)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR = LENGTH, (), 0.01
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = norm
    work = _work(setting, name)
    if not begun:
        shutil.rmtree(work, ignore_errors=True)
    data = replace(training_data(specification, manifest), held_out=0)
    final = trainer.train(cfg, data, work, hardware, description=name)
    return torch.load(final, weights_only=True, map_location="cpu")["model"]


def _work(setting: Setting, name: str) -> Path:
    return setting.folder / TRAININGS / name


def _terminated_at(iteration: int) -> Any:
    """A context in which trainings get SIGTERM before this iteration."""
    before_step = SeedEveryIteration.before_step

    def stop(hook: SeedEveryIteration) -> None:
        if hook.trainer.iter == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        before_step(hook)

    return patch.object(SeedEveryIteration, "before_step", stop)


def distance(found: Tensors, reference: Tensors) -> Row:
    """Whether all bits are the same; how far all tensors as one are apart, and the worst of them,
    relative to their norms."""
    whole = (torch.cat([one[k].float().flatten() for k in reference]) for one in (found, reference))
    off = {name: relative(found[name].float(), one.float()) for name, one in reference.items()}
    worst = max(off, key=lambda name: off[name])
    same = all(torch.equal(found[name], one) for name, one in reference.items())
    return {"same_bits": same, "off": relative(*whole), "worst_off": off[worst], "worst": worst}


def _one_rank(setting: Setting, backend: str) -> Row:
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = []
        for wrapped in (False, True):
            session = Session(setting.small_job(2, setting.device))
            if wrapped:
                gpu = [torch.cuda.current_device()] if setting.on_gpu else None
                session.model = DistributedDataParallel(session.model, gpu)
            session.step()
            found.append(gradients_of(getattr(session.model, "module", session.model)))
        return distance(found[1], found[0])
    finally:
        dist.destroy_process_group()
