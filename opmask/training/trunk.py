"""Shared prefixes: schedules of different length are one training until their first different step.

The paper's schedules (1x, 130k, 3x) differ in their steps alone, so the longest holds the beginning
of the others; so are methods that differ at test alone. Whichever trains first leaves
checkpoints in a trunk folder, one just before each schedule's first step; a later run starts from
the last that it shares, and ends with the bits of a training of its own.
"""

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

from opmask.errors import UserError
from opmask.integrity import SUMS, copy_summed, empty_folder, publish, require_whole
from opmask.training.files import METRICS, NUMBERED, TENSORBOARD


def log_period(max_iter: int) -> int:
    """Every how many iterations a training of `max_iter` iterations logs its losses."""
    return max(1, min(20, max_iter // 20))


@dataclass(frozen=True)
class Trunk:
    """Where runs that differ in schedule alone leave what they share.

    `points`: after how many iterations a run leaves a checkpoint, all before its own first step.
    """

    folder: Path
    points: tuple[int, ...]

    def checkpoint(self, point: int) -> Path:
        """Of `point` finished iterations; named, as detectron2 does, by the last one's number."""
        return self.folder / NUMBERED.format(point - 1)

    def logs(self, point: int) -> Path:
        """What the trainings up to `point` had logged."""
        return self.folder / f"logs_{point - 1:07d}"

    def shared(self, other: "Trunk") -> int:
        """After how many iterations two runs part; 0 if they share nothing."""
        common = set(self.points) & set(other.points) if self.folder == other.folder else ()
        return max(common, default=0)

    def start(self, work: Path) -> int:
        """Let the run that is to begin in `work` resume from the last shared checkpoint.

        One that is damaged, or whose logs are, is named in a warning and not used.

        Returns:
            How many iterations it need not train, 0 if none.
        """
        there = [point for point in self.points if self.checkpoint(point).exists()]
        for point in sorted(there, reverse=True):
            trouble = self._trouble(point)
            if trouble is None:
                ignore = shutil.ignore_patterns(SUMS)
                shutil.copytree(self.logs(point), work, ignore=ignore, dirs_exist_ok=True)
                copy_summed(self.checkpoint(point), work / self.checkpoint(point).name)
                return point
            warnings.warn(f"{self.checkpoint(point)} is not used: {trouble}", stacklevel=2)
        return 0

    def _trouble(self, point: int) -> str | None:
        from opmask.training.checkpoints import trouble  # torch: only where something is trained

        try:
            require_whole(self.logs(point), remedy="its run trains from its start")
        except UserError as error:
            return str(error)
        return trouble(self.checkpoint(point), (self.folder.name,))

    def keep_logs(self, work: Path, point: int) -> None:
        """Copy what the run in `work` has logged until now, whole or not at all."""
        partial = empty_folder(self.folder / "logs.partial")
        for path in (work / name for name in (METRICS, TENSORBOARD)):
            if path.is_dir():
                shutil.copytree(path, partial / path.name)
            elif path.exists():
                shutil.copy(path, partial)
        publish(partial, self.logs(point))
