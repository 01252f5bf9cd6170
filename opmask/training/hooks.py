"""Hooks for detectron2's trainer: reproducible randomness, clean stops, checkpoints, progress."""

import io
import json
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from filelock import FileLock
from tqdm import tqdm

from opmask.errors import Terminated, UserError
from opmask.integrity import damage, summed_file, write_durably
from opmask.model import plain_weights, weights
from opmask.training import checkpoints
from opmask.training.files import FINAL, NUMBERED
from opmask.training.trunk import Trunk


class SeedEveryIteration(HookBase):
    """Seeds torch's sampling of iteration `i` with `(seed, i, rank)`: resuming changes nothing."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self) -> None:
        torch.manual_seed((self.seed * 1_000_003 + self.trainer.iter) * 1009 + comm.get_rank())


class StopCleanly(HookBase):
    """On Ctrl-C or SIGTERM: finishes the iteration, saves a checkpoint, then stops.

    All processes at the same iteration, whichever of them was signalled, and none before it is
    saved.
    """

    def __init__(self, checkpointer: DetectionCheckpointer):
        self.checkpointer = checkpointer
        self.received = 0
        self.previous: dict[int, Any] = {}

    def before_train(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: object) -> None:
        self.received = number

    def after_step(self) -> None:
        received = comm.all_gather(self.received)
        if any(received):
            iteration = self.trainer.iter
            self.checkpointer.save(NUMBERED.format(iteration), iteration=iteration)
            comm.synchronize()
            raise Terminated if signal.SIGTERM in received else KeyboardInterrupt

    def after_train(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class SafeCheckpointer(DetectionCheckpointer):
    """Reads only data, never code; writes checkpoint files that are whole or absent, and finite.

    Raises:
        UserError: what is to be loaded is refused, or is not the backbone's (`weights`);
        UserError: the disk is full or not writable, or the weights are NaN; the previous checkpoint
            stays the last one.
    """

    _source = ""

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        self._source = path.split("#")[0]
        if self._source == weights.FROM_TIMM:
            self._load_model({"model": weights.timm_own(self.model)})
            return {}
        return super().load(weights.local_file(path) if path else "", checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return weights.for_model(plain_weights.read(filename), self.model)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:  # noqa: ANN401
        result = super()._load_model(checkpoint)
        weights.require_backbone(result.missing_keys, result.incorrect_shapes, self._source)
        return result

    def resume_or_start(self, initial: str, also: str = "") -> int:
        """Load the newest checkpoint that is whole, else `initial` weights; the next iteration.

        Checkpoints of the training that works in a folder named `also` are this one's, too. Of
        several processes the first does so, and the others get all that it has.
        """
        if comm.get_world_size() == 1:
            return self._resume_or_start(initial, also)
        parts = {"model": self.model, **self.checkpointables}
        content = io.BytesIO()
        if comm.is_main_process():
            start = self._resume_or_start(initial, also)
            torch.save({"start": start, **{k: v.state_dict() for k, v in parts.items()}}, content)
        box = [content.getvalue()]
        dist.broadcast_object_list(box)
        if not comm.is_main_process():
            loaded = torch.load(io.BytesIO(box[0]), map_location="cpu", weights_only=True)
            start = loaded["start"]
            for name, part in parts.items():
                part.load_state_dict(loaded[name])
        return start

    def _resume_or_start(self, initial: str, also: str) -> int:
        folder = Path(self.save_dir)
        found = checkpoints.newest(folder, (folder.name, also))
        if found is None:
            self.load(initial, checkpointables=[])
            return 0  # given weights may carry the iteration of the training that made them
        return self.load(str(found))["iteration"] + 1

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        name = name.removesuffix(".pth")  # detectron2 gives it without
        state = self.model.state_dict()
        bad = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
        if bad:
            raise UserError(f"{bad[0]} is not finite: {name} not written, {self._previous()}")
        final = Path(self.save_dir, f"{name}.pth")
        data = {"model": state, **{k: v.state_dict() for k, v in self.checkpointables.items()}}
        if self.checkpointables:  # it is more than weights: somebody will resume from it
            data["run"] = final.parent.name
        with disk_trouble(final, self._previous()):
            with summed_file(final) as file:
                torch.save({**data, **kwargs}, file)
            if tag:
                self.tag_last_checkpoint(final.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """For other programs that read detectron2's folders."""
        write_durably(Path(self.save_dir, "last_checkpoint"), last_filename_basename)

    def _previous(self) -> str:
        found = list(checkpoints.numbered(Path(self.save_dir)).values())
        return f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"


@contextmanager
def disk_trouble(path: Path, remark: str = "free some space and repeat") -> Iterator[None]:
    """Reports a full or failing disk, which torch's zip writer gives as a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        raise UserError(f"cannot write {path}: {reason}; {remark}") from error


class PeriodicCheckpoints(HookBase):
    """A checkpoint every `period` iterations, of which the newest two stay, and the final one."""

    def __init__(self, checkpointer: SafeCheckpointer, period: int):
        self.checkpointer, self.period = checkpointer, period

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if (iteration + 1) % self.period == 0:
            self.checkpointer.save(NUMBERED.format(iteration), iteration=iteration)
            checkpoints.prune(Path(self.checkpointer.save_dir), iteration)
        if iteration + 1 == self.trainer.max_iter:
            self.checkpointer.save(FINAL, iteration=iteration)


class LogHistory(HookBase):
    """Keeps the latest scalars in checkpoints: after a resume, logs are smoothed as if unbroken."""

    WINDOW = 20  # over which detectron2's writers take the median

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        if self.trainer is None:  # nothing is trained
            return self.loaded
        storage = self.trainer.storage
        return {
            name: {
                "smoothed": storage.smoothing_hints()[name],
                "last": history.values()[-self.WINDOW :],
            }
            for name, history in storage.histories().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = state

    def before_train(self) -> None:
        storage = self.trainer.storage
        for name, one in self.loaded.items():
            for value, storage.iter in one["last"]:
                storage.put_scalar(name, value, smoothing_hint=one["smoothed"])


def forget_logged(log: Path, iterations: int, period: int) -> None:
    """Drop the rows of detectron2's metrics.json from iteration number `iterations` on.

    The training that resumes there, or a little later, writes them as if they had never been.
    Warns if there are fewer rows before it than one every `period` iterations.
    """
    kept, complete = [], 0
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        with suppress(ValueError, KeyError, TypeError):  # half a line, of a power cut
            row = json.loads(line)
            if row["iteration"] < iterations:
                kept.append(line + "\n")
                complete += "total_loss" in row
    if complete < iterations // period:
        warnings.warn(f"{log}: has lost rows: the loss curves lack them", stacklevel=2)
    write_durably(log, "".join(kept))


class Snapshots(HookBase):
    """Keeps the weights, without the optimiser, of every `period`-th iteration and of the last."""

    def __init__(self, checkpointer: SafeCheckpointer, period: int, folder: Path):
        self.period = period
        self.checkpointer = SafeCheckpointer(checkpointer.model, str(folder))

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.checkpointer.save(NUMBERED.format(done), tag=False)


class LeaveTrunk(HookBase):
    """Writes a checkpoint for the runs that share this one's beginning, as training passes it."""

    def __init__(self, trunk: Trunk, checkpointer: SafeCheckpointer, work: Path):
        self.trunk, self.work = trunk, work
        parts = checkpointer.checkpointables
        self.checkpointer = SafeCheckpointer(checkpointer.model, str(trunk.folder), **parts)

    def after_step(self) -> None:
        point = self.trainer.iter + 1
        if point not in self.trunk.points:
            return
        self.trunk.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.trunk.folder / "lock"):  # two runs may pass it at the same time
            path = self.trunk.checkpoint(point)
            if damage(path):  # or not there
                self.trunk.keep_logs(self.work, point)  # first: the checkpoint says all is there
                self.checkpointer.save(path.name, tag=False, iteration=self.trainer.iter)


class ProgressBar(EventWriter):
    """A tqdm bar with ETA and the smoothed losses."""

    def __init__(self, start: int, max_iter: int, description: str):
        self.bar = tqdm(initial=start, total=max_iter, desc=description, unit="it", mininterval=1)

    def write(self) -> None:
        storage = get_event_storage()
        latest = {
            name.removeprefix("loss_"): f"{history.median(20):.3f}"
            for name, history in storage.histories().items()
            if name.startswith("loss_") or name == "total_loss"
        }
        self.bar.set_postfix(latest, refresh=False)
        self.bar.update(min(storage.iter + 1, self.bar.total) - self.bar.n)

    def close(self) -> None:
        self.bar.close()
