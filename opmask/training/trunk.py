"""Shared prefixes: schedules of different length are one training until their first different step.

The paper's schedules (1x, 130k, 3x) differ in their steps alone, so the longest holds the beginning
of the others. Whichever trains first leaves checkpoints in a trunk folder, one just before each
schedule's first step; a later run starts from the last that it shares, and ends with the bits of
a training of its own.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

LOGS = ("metrics.json", "tensorboard", "dvclive")


@dataclass(frozen=True)
class Trunk:
    """Where runs that differ in schedule alone leave what they share.

    `points`: after how many iterations a run leaves a checkpoint, all before its own first step.
    """

    folder: Path
    points: tuple[int, ...]

    def checkpoint(self, point: int) -> Path:
        """Of `point` finished iterations; named, as detectron2 does, by the last one's number."""
        return self.folder / f"model_{point - 1:07d}.pth"

    def logs(self, point: int) -> Path:
        """What the trainings up to `point` had logged."""
        return self.folder / f"logs_{point - 1:07d}"

    def shared(self, other: "Trunk") -> int:
        """After how many iterations two runs part; 0 if they share nothing."""
        common = set(self.points) & set(other.points) if self.folder == other.folder else ()
        return max(common, default=0)

    def reached(self) -> int:
        """The last of `points` that is there, 0 if none is."""
        return max((p for p in self.points if self.checkpoint(p).exists()), default=0)

    def start(self, work: Path) -> int:
        """Let the run that is to begin in `work` resume from the last shared checkpoint.

        Returns:
            How many iterations it need not train, 0 if none.
        """
        point = self.reached()
        if point:
            shutil.copytree(self.logs(point), work, dirs_exist_ok=True)
            shutil.copy(self.checkpoint(point), work)
            (work / "last_checkpoint").write_text(self.checkpoint(point).name)
        return point

    def keep_logs(self, work: Path, point: int) -> None:
        """Copy what the run in `work` has logged until now, whole or not at all."""
        partial = self.folder / "logs.partial"
        for path in (partial, self.logs(point)):
            shutil.rmtree(path, ignore_errors=True)
        partial.mkdir(parents=True)
        for path in (work / name for name in LOGS):
            if path.is_dir():
                shutil.copytree(path, partial / path.name)
            elif path.exists():
                shutil.copy(path, partial)
        os.replace(partial, self.logs(point))
