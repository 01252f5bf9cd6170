"""One trainer for every run: detectron2's engine, hooks and checkpoints, on one to many GPUs.

`train` may be killed at any moment and called again: it resumes from its work folder, and on CPU
ends with the same bits as an uninterrupted run.
"""

import json
import logging
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer, create_ddp_model, hooks, launch
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import JSONWriter, TensorboardXWriter
from filelock import FileLock, Timeout

from opmask.data.coco import hold_out, load_training_dicts, supervised_mask_count
from opmask.data.loader import build_loader
from opmask.errors import UserError
from opmask.training.folders import FINAL
from opmask.training.hardware import Hardware
from opmask.training.hooks import (
    LeaveTrunk,
    LiveWriter,
    ProgressBar,
    SafeCheckpointer,
    SeedEveryIteration,
    Snapshots,
    StopCleanly,
)
from opmask.training.mask_layers import use_matrix_mask_layers
from opmask.training.precision import use_precision
from opmask.training.roi_align import use_separable_roi_align
from opmask.training.schedule import build_exact_lr_scheduler
from opmask.training.trunk import Trunk

HELD_OUT = "held_out.json"
SNAPSHOTS = "snapshots"
SESSIONS = "sessions.jsonl"


@dataclass(frozen=True)
class TrainingData:
    """What to train on. Only masks of `supervised_ids` (COCO category ids) are ever read."""

    annotations: Path
    images: Path
    supervised_ids: tuple[int, ...]
    held_out: int = 0  # images kept out of training, see `opmask.data.coco.hold_out`


def train(
    cfg: CfgNode,
    data: TrainingData,
    work: Path,
    hardware: Hardware,
    *,
    description: str,
    trunk: Trunk | None = None,
) -> Path:
    """Train `cfg` to its last iteration, resuming if `work` or else `trunk` holds a checkpoint.

    With several machines each calls this; the first, rank 0, writes all files.

    Returns:
        The final checkpoint in `work`, a plain detectron2 one; `work/config.yaml` belongs to it.

    Raises:
        UserError: another process trains in `work`, the data cannot be used, the disk is full, or a
            loss is not finite.
    """
    started = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / f"lock{hardware.machine_rank}")  # machines may share a file system
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{work}: another process is training this run; wait for it or stop it"
        ) from error
    try:
        if not (work / FINAL).exists():
            if trunk and hardware.machine_rank == 0 and not (work / "last_checkpoint").exists():
                trunk.start(work)
            launch(
                _worker,
                hardware.gpus,
                num_machines=hardware.machines,
                machine_rank=hardware.machine_rank,
                dist_url=hardware.dist_url,
                args=(cfg, data, work, hardware.workers, description, trunk),
            )
    finally:
        with (work / SESSIONS).open("a") as file:
            seconds = round(time.monotonic() - started, 1)
            file.write(json.dumps({"seconds": seconds, "peak_memory_gib": _peak_memory()}) + "\n")
        lock.release()
    return work / FINAL


def sessions(work: Path) -> list[dict[str, float]]:
    """`seconds` and `peak_memory_gib` of every session in `work` that was not killed outright."""
    return [json.loads(line) for line in (work / SESSIONS).read_text().splitlines()]


def _peak_memory() -> float:
    """Largest resident size so far of this process or one that it waited for, GiB."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(max(u.ru_maxrss for u in usage) / 2**20, 2)


def _worker(
    cfg: CfgNode,
    data: TrainingData,
    work: Path,
    workers: int,
    description: str,
    trunk: Trunk | None,
) -> None:
    """What each process does: build everything from `cfg`, then run detectron2's training loop."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)  # its checkpoint log is pages long
    torch.manual_seed(cfg.SEED)
    # The layout that convolutions are fastest in, on CPU and GPU.
    model = build_model(cfg).to(memory_format=torch.channels_last)
    if cfg.MODEL.DEVICE == "cpu":
        use_separable_roi_align(model)
        use_matrix_mask_layers(model)
    use_precision(model, cfg.SOLVER.PRECISION)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_exact_lr_scheduler(cfg, optimizer)
    checkpointer = SafeCheckpointer(model, str(work), optimizer=optimizer, scheduler=scheduler)
    start = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS).get("iteration", -1) + 1
    if not checkpointer.has_checkpoint():
        start = 0  # given weights may carry the iteration of the training that made them
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    dicts, held_out = hold_out(dicts, data.held_out)
    if cfg.MODEL.MASK_ON:
        supervised_mask_count(dicts, description, data.annotations)
    loader = build_loader(dicts, cfg, start=start, workers=workers)
    trainer = SimpleTrainer(create_ddp_model(model, broadcast_buffers=False), loader, optimizer)
    trainer.register_hooks(_hooks(cfg, checkpointer, scheduler, work, start, description))
    if trunk and comm.is_main_process():
        trainer.register_hooks([LeaveTrunk(trunk, checkpointer, work)])
    if comm.is_main_process():
        (work / "config.yaml").write_text(cfg.dump())
        (work / HELD_OUT).write_text(json.dumps(held_out))
        (work / SNAPSHOTS).mkdir(exist_ok=True)
    logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
    try:
        trainer.train(start, cfg.SOLVER.MAX_ITER)
    except FloatingPointError as error:
        last = checkpointer.get_checkpoint_file() or "none"
        raise UserError(
            f"{description}: a loss is not finite at iteration {trainer.iter}; "
            f"the last good checkpoint is {last} ({' '.join(str(error).split())})"
        ) from error


def _hooks(cfg, checkpointer, scheduler, work: Path, start: int, description: str) -> list:  # noqa: ANN001
    result = [
        SeedEveryIteration(cfg.SEED),
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=scheduler),
    ]
    if comm.is_main_process():
        writers = [
            ProgressBar(start, cfg.SOLVER.MAX_ITER, description),
            JSONWriter(str(work / "metrics.json")),
            TensorboardXWriter(str(work / "tensorboard")),
            LiveWriter(work / "dvclive", start),
        ]
        period = max(1, min(20, cfg.SOLVER.MAX_ITER // 20))
        result += [
            hooks.PeriodicWriter(writers, period),
            hooks.PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=1),
        ]
        if cfg.SOLVER.SNAPSHOT_PERIOD:
            result.append(Snapshots(checkpointer, cfg.SOLVER.SNAPSHOT_PERIOD, work / SNAPSHOTS))
    return [*result, StopCleanly(checkpointer)]


def export(work: Path, out: Path, provenance: str) -> None:
    """Publish a finished run: weights without optimiser, config, logs; whole or not at all."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = torch.load(work / FINAL, map_location="cpu", weights_only=True)["model"]
    torch.save({"model": weights}, partial / FINAL)
    for name in ("config.yaml", "metrics.json", HELD_OUT):
        shutil.copy(work / name, partial / name)
    for name in ("tensorboard", SNAPSHOTS):
        shutil.copytree(work / name, partial / name)
    kept = sorted(path.name for path in (work / SNAPSHOTS).iterdir())
    (partial / SNAPSHOTS / "index.json").write_text(json.dumps(kept))
    shutil.copytree(work / "dvclive" / "plots" / "metrics", partial / "losses")
    (partial / "provenance.json").write_text(provenance)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
