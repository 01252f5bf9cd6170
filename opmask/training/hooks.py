"""Hooks for detectron2's trainer: reproducible randomness, clean stops, checkpoints, progress."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from filelock import FileLock
from tqdm import tqdm

from opmask.errors import UserError
from opmask.training import plain_weights, weights
from opmask.training.trunk import Trunk


class SeedEveryIteration(HookBase):
    """Seeds torch's sampling of iteration `i` with `(seed, i, rank)`: resuming changes nothing."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self) -> None:
        torch.manual_seed((self.seed * 1_000_003 + self.trainer.iter) * 1009 + comm.get_rank())


class StopCleanly(HookBase):
    """On Ctrl-C or SIGTERM: finishes the iteration, saves a checkpoint, then stops."""

    def __init__(self, checkpointer: DetectionCheckpointer):
        self.checkpointer = checkpointer
        self.received: int | None = None
        self.previous: dict[int, Any] = {}

    def before_train(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: object) -> None:
        self.received = number

    def after_step(self) -> None:
        if self.received is not None:
            iteration = self.trainer.iter
            self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            raise KeyboardInterrupt

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

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        state = self.model.state_dict()
        bad = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
        if bad:
            raise UserError(f"{bad[0]} is not finite: {name} not written, {self._previous()}")
        partial, final = (Path(self.save_dir, name + end) for end in (".partial", ".pth"))
        data = {"model": state, **{k: v.state_dict() for k, v in self.checkpointables.items()}}
        try:
            with partial.open("wb") as file:
                torch.save({**data, **kwargs}, file)
            os.replace(partial, final)
            if tag:
                self.tag_last_checkpoint(final.name)
        except (
            OSError,
            RuntimeError,
        ) as error:  # torch's zip writer reports a full disk as the latter
            partial.unlink(missing_ok=True)
            reason = os.strerror(error.errno) if getattr(error, "errno", None) else str(error)
            raise UserError(f"cannot write {final}: {reason}; {self._previous()}") from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        tag = Path(self.save_dir, "last_checkpoint")
        partial = tag.with_suffix(".partial")
        partial.write_text(last_filename_basename)
        os.replace(partial, tag)

    def _previous(self) -> str:
        previous = self.get_checkpoint_file()
        return (
            f"the last good checkpoint is {previous}" if previous else "there is no checkpoint yet"
        )


class Snapshots(HookBase):
    """Keeps the weights, without the optimiser, of every `period`-th iteration and of the last."""

    def __init__(self, checkpointer: SafeCheckpointer, period: int, folder: Path):
        self.period = period
        self.checkpointer = SafeCheckpointer(checkpointer.model, str(folder))

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.checkpointer.save(f"model_{done:07d}", tag=False)


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
            if not path.exists():
                self.trunk.keep_logs(self.work, point)  # first: the checkpoint says all is there
                self.checkpointer.save(path.stem, tag=False, iteration=self.trainer.iter)


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


class LiveWriter(EventWriter):
    """Losses and learning rate through DVCLive, smoothed over 20 iterations."""

    def __init__(self, folder: Path, start: int):
        for path in folder.glob("plots/metrics/*.tsv"):
            _forget_after(path, start)
        from dvclive import Live  # here: it takes a second to import, and only training needs it

        self.live = Live(
            str(folder),
            resume=start > 0,
            report=None,
            save_dvc_exp=False,
            dvcyaml=None,
            monitor_system=False,
        )
        self.written = start

    def write(self) -> None:
        storage = get_event_storage()
        # of the last logged iteration; after training `storage.iter` is one too far
        iteration = storage.latest().get("lr", (None, self.written - 1))[1]
        if iteration + 1 == self.written:
            return
        self.live.step = self.written = iteration + 1
        for name, history in storage.histories().items():
            if "loss" in name:
                self.live.log_metric(name, history.median(20))
        self.live.log_metric("lr", storage.history("lr").latest())
        self.live.make_summary()

    def close(self) -> None:
        self.live.end()


def _forget_after(log: Path, iterations: int) -> None:
    """Drop the rows of a DVCLive log that the resumed training will write again."""
    header, *rows = log.read_text().splitlines()
    kept = [
        row for row in rows if int(row.split("\t")[header.split("\t").index("step")]) <= iterations
    ]
    log.write_text("\n".join([header, *kept]) + "\n")
