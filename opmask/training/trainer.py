"""One trainer for every run: detectron2's engine, hooks and checkpoints, in one or more processes.

`train` may be killed at any moment and called again: it resumes from its work folder, and on CPU
ends with the same bits as an uninterrupted run.
"""

import json
import logging
import resource
import shutil
import signal
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, SimpleTrainer, create_ddp_model, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import JSONWriter, TensorboardXWriter
from filelock import FileLock, Timeout
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from opmask.data.coco import hold_out, load_training_dicts, supervised_mask_count
from opmask.data.loader import build_loader
from opmask.errors import UserError
from opmask.integrity import remove_summed, write_durably
from opmask.model.cpu import use_matrix_mask_layers, use_separable_roi_align
from opmask.model.frozen_features import FrozenFeaturesRCNN
from opmask.model.precision import use_precision
from opmask.training import checkpoints
from opmask.training.files import (
    ANNOTATIONS,
    CONFIG,
    FEATURES,
    FINAL,
    HELD_OUT,
    METRICS,
    SESSIONS,
    SNAPSHOTS,
    TENSORBOARD,
)
from opmask.training.hardware import Hardware
from opmask.training.hooks import (
    LeaveTrunk,
    LogHistory,
    PeriodicCheckpoints,
    ProgressBar,
    SafeCheckpointer,
    SeedEveryIteration,
    Snapshots,
    StopCleanly,
    forget_logged,
)
from opmask.training.launch import blocked_signals, launch
from opmask.training.norms import synchronise_norms
from opmask.training.options import use_options
from opmask.training.schedule import build_exact_lr_scheduler
from opmask.training.trunk import Trunk, log_period


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

    With several machines each calls this. The first reads weights and checkpoints and writes all
    files, so that the others need neither its disk nor a shared one; all need the data.

    Several processes share the images of a batch; losses and batch statistics are those of the
    whole batch. Against one process differ the order of sums, the random samples of anchors and
    RoIs, which each process draws for itself, and the padding, to the largest image of a process.

    Returns:
        The final checkpoint in `work`, a plain detectron2 one; `work/config.yaml` belongs to it. On
        the first machine only, unless they share `work`.

    Raises:
        UserError: another process trains in `work`, the data cannot be used, the disk is full, a
            loss is not finite, or one of several processes was killed;
        KeyboardInterrupt: by Ctrl-C or SIGTERM, with a checkpoint written.
    """
    started = time.monotonic()
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = hardware.device
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / f"lock{hardware.machine_rank}")  # machines may share a file system
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{work}: another process is training this run; wait for it or stop it"
        ) from error
    shared = 0
    try:
        if hardware.machine_rank == 0:
            checkpoints.drop_unless_snapshots(work, cfg.SOLVER.SNAPSHOT_PERIOD, cfg.SOLVER.MAX_ITER)
        # Whether it is finished, other machines cannot know.
        if hardware.machines > 1 or not _is_finished(work, trunk):
            shared = _start_from_trunk(trunk, work, hardware)
            launch(_worker, (cfg, data, work, hardware.workers, description, trunk), hardware)
    finally:
        if hardware.machine_rank == 0:
            with suppress(OSError):  # of a full disk, of which there is worse to say
                _log_session(work, time.monotonic() - started, shared)
        lock.release()
    return work / FINAL


def _runs(work: Path, trunk: Trunk | None) -> tuple[str, str]:
    """Whose checkpoints are good for the training in `work`."""
    return work.name, trunk.folder.name if trunk else ""


def _is_finished(work: Path, trunk: Trunk | None) -> bool:
    final = work / FINAL
    trouble = checkpoints.trouble(final, _runs(work, trunk)) if final.exists() else "not there"
    if trouble and final.exists():
        warnings.warn(f"{final} is not used: {trouble}; training resumes", stacklevel=3)
        remove_summed(final)
    return trouble is None


def _start_from_trunk(trunk: Trunk | None, work: Path, hardware: Hardware) -> int:
    """How many iterations the training in `work` takes over from others, as it begins."""
    begun = checkpoints.newest(work, _runs(work, trunk), warn=False)
    return trunk.start(work) if trunk and hardware.machine_rank == 0 and begun is None else 0


def _log_session(work: Path, seconds: float, shared: int) -> None:
    session = {"seconds": round(seconds, 1), "peak_memory_gib": _peak_memory()}
    found = [*sessions(work), session | {"shared_iterations": shared}]
    lines = [json.dumps(session) + "\n" for session in found]
    write_durably(work / SESSIONS, "".join(lines))


def sessions(work: Path) -> list[dict[str, float]]:
    """`seconds`, `peak_memory_gib` and `shared_iterations`, which it did not train itself, of every
    session in `work` that was not killed outright."""
    path, found = work / SESSIONS, []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError):  # damaged; it only says how long something took
            found.append(json.loads(line))
    return found


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
    if comm.all_gather(comm.is_main_process() and _is_finished(work, trunk))[0]:
        return
    torch.manual_seed(cfg.SEED)
    model = _build(cfg)
    optimizer = build_optimizer(cfg, model)
    use_options(cfg, model, optimizer)
    scheduler = build_exact_lr_scheduler(cfg, optimizer)
    history = LogHistory()
    parts = {"optimizer": optimizer, "scheduler": scheduler, "history": history}
    checkpointer = SafeCheckpointer(model, str(work), **parts)
    start = checkpointer.resume_or_start(cfg.MODEL.WEIGHTS, _runs(work, trunk)[1])
    if isinstance(model, FrozenFeaturesRCNN):
        model.keep_in(work.parent / FEATURES)
    cache = work.parent / ANNOTATIONS  # of all runs
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids, cache)
    dicts, held_out = hold_out(dicts, data.held_out)
    if cfg.MODEL.MASK_ON:
        supervised_mask_count(dicts, description, data.annotations)
    loader = build_loader(dicts, cfg, start=start, workers=workers)
    gpu = [torch.cuda.current_device()] if cfg.MODEL.DEVICE == "cuda" else None
    parallel = create_ddp_model(model, device_ids=gpu, broadcast_buffers=False)
    # Loader processes end with this one, which is to stop.
    with blocked_signals(signal.SIGINT, signal.SIGTERM):
        trainer = SimpleTrainer(parallel, loader, optimizer)
    if comm.is_main_process():
        write_durably(work / CONFIG, cfg.dump())
        write_durably(work / HELD_OUT, json.dumps(held_out))
        (work / SNAPSHOTS).mkdir(exist_ok=True)
    if start == cfg.SOLVER.MAX_ITER:  # it was killed between its last two checkpoints
        checkpointer.save(FINAL, iteration=start - 1)
        return
    own = _hooks(cfg, checkpointer, scheduler, start, trunk, description)
    trainer.register_hooks([history, *own])
    logging.getLogger("detectron2.engine.train_loop").setLevel(logging.CRITICAL)
    try:
        trainer.train(start, cfg.SOLVER.MAX_ITER)
    except FloatingPointError as error:
        last = checkpointer.get_checkpoint_file() or "none"
        raise UserError(
            f"{description}: a loss is not finite at iteration {trainer.iter}; "
            f"the last good checkpoint is {last} ({' '.join(str(error).split())})"
        ) from error


def _build(cfg: CfgNode) -> nn.Module:
    """The model, in the layout that convolutions are fastest in, on CPU and GPU."""
    model = build_model(cfg).to(memory_format=torch.channels_last)
    if cfg.MODEL.DEVICE == "cpu":
        use_separable_roi_align(model)
        use_matrix_mask_layers(model)
    use_precision(model, cfg.SOLVER.PRECISION)
    synchronise_norms(model)
    return model


def _hooks(
    cfg: CfgNode,
    checkpointer: SafeCheckpointer,
    scheduler: LRScheduler,
    start: int,
    trunk: Trunk | None,
    description: str,
) -> list[HookBase]:
    """In this order: a checkpoint says that all that belongs to its iteration is written."""
    work = Path(checkpointer.save_dir)
    result = [
        SeedEveryIteration(cfg.SEED),
        hooks.IterationTimer(warmup_iter=max(0, 3 - start)),
        hooks.LRScheduler(scheduler=scheduler),
    ]
    if comm.is_main_process():
        period = log_period(cfg.SOLVER.MAX_ITER)
        writers = _log_writers(work, start // period * period, period)
        bar = ProgressBar(start, cfg.SOLVER.MAX_ITER, description)  # last: it takes the screen
        result.append(hooks.PeriodicWriter([bar, *writers], period))
        if cfg.SOLVER.SNAPSHOT_PERIOD:
            result.append(Snapshots(checkpointer, cfg.SOLVER.SNAPSHOT_PERIOD, work / SNAPSHOTS))
        if trunk:
            result.append(LeaveTrunk(trunk, checkpointer, work))
        result.append(PeriodicCheckpoints(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
    return [*result, StopCleanly(checkpointer)]


def _log_writers(work: Path, logged: int, period: int) -> list[JSONWriter | TensorboardXWriter]:
    """Writers that go on after the first `logged` iterations; what came later is forgotten."""
    forget_logged(work / METRICS, logged, period)
    if not logged:
        shutil.rmtree(work / TENSORBOARD, ignore_errors=True)
    json_writer = JSONWriter(str(work / METRICS))
    tensorboard = TensorboardXWriter(str(work / TENSORBOARD), purge_step=logged or None)
    for writer in (json_writer, tensorboard):
        writer._last_write = logged - 1
    return [json_writer, tensorboard]
