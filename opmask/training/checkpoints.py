"""Checkpoints in a folder: which is the newest that is whole, and which may go.

Each has its SHA-256 beside it (`opmask.integrity`). The checksums inside PyTorch's zip archives
would not do: `torch.load` does not look at them, and they leave out the archive's own structure.
Nothing trusts detectron2's `last_checkpoint`, which is only written, for other programs.
"""

import re
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from opmask.errors import UserError
from opmask.integrity import damage, remove_summed
from opmask.model import plain_weights
from opmask.training.files import FINAL, NUMBERED, SNAPSHOTS

KEPT = 2  # if the newest is damaged, there is the one before


def numbered(folder: Path) -> dict[int, Path]:
    """Checkpoints by their last iteration, newest first."""
    found = {int(m[1]): path for path in folder.glob("model_*.pth") if (m := _number(path))}
    return dict(sorted(found.items(), reverse=True))


def _number(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"model_(\d+)\.pth", path.name)


def newest(folder: Path, runs: Collection[str], *, warn: bool = True) -> Path | None:
    """The newest checkpoint in `folder` that is whole and of one of `runs`, None without any.

    Those that are not are named in a warning, if `warn`.
    """
    for path in numbered(folder).values():
        reason = trouble(path, runs)
        if reason is None:
            return path
        if warn:
            warnings.warn(f"{path} is not used: {reason}; an earlier one is", stacklevel=2)
    return None


def trouble(path: Path, runs: Collection[str]) -> str | None:
    """Why the checkpoint in `path` cannot be used by a training in `runs`, None if it can.

    Not whole, of another training, or of another iteration than its name says.
    """
    reason = damage(path)
    if reason:
        return reason
    try:
        return _foreign(plain_weights.read(str(path)), path, runs)
    except UserError as error:
        return str(error)


def _foreign(content: dict[str, Any], path: Path, runs: Collection[str]) -> str | None:
    if content.get("run") not in runs:
        return f"it is of another training ({content.get('run')})"
    number = _number(path)
    if number and content.get("iteration") != int(number[1]):
        return f"it is of iteration {content.get('iteration')}"
    return None


def prune(folder: Path, iteration: int) -> None:
    """Keep the newest KEPT checkpoints up to `iteration`: later ones were found unusable."""
    found = numbered(folder)
    usable = [number for number in found if number <= iteration]
    for number in found.keys() - set(usable[:KEPT]):
        remove_summed(found[number])


def drop_unless_snapshots(work: Path, period: int, max_iter: int) -> None:
    """Remove checkpoints later than a snapshot that is missing or damaged: it is made again.

    period: iterations between snapshots, 0 for none.
    """
    if not period:
        return
    found = [*numbered(work).items(), (max_iter - 1, work / FINAL)]
    last = max((number for number, path in found if path.exists()), default=-1)
    due = list(range(period, last + 2, period))
    if last + 1 == max_iter:
        due.append(max_iter)
    for done in due:
        snapshot = work / SNAPSHOTS / NUMBERED.format(done)
        reason = damage(snapshot)
        if reason:
            warnings.warn(f"{snapshot}: {reason}; it is made again", stacklevel=3)
            for path in [path for number, path in found if number + 1 >= done]:
                remove_summed(path)
            return
