"""How far a training is, by the log that it writes as it goes."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from study.spec.paths import LOG

_TAIL = 16384  # bytes of a log in which its last whole line is looked for


@dataclass(frozen=True)
class Log:
    """Iterations done, seconds an iteration (NaN: not measured yet) and losses, by detectron2's
    names, when the training last logged them."""

    done: int = 0
    seconds: float = math.nan
    losses: Mapping[str, float] = field(default_factory=dict)


def last_log(folder: Path) -> Log:
    """The last whole line of detectron2's metrics.json in `folder` that has losses."""
    for line in reversed(_tail(folder / LOG)):
        try:
            values = json.loads(line)
            done = int(values["iteration"]) + 1
        except (ValueError, KeyError, TypeError):  # half a line, or one without losses
            continue
        losses = {name: value for name, value in values.items() if "loss" in name}
        if losses:
            return Log(done, float(values.get("time", math.nan)), losses)
    return Log()


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().splitlines()
    except OSError:
        return []
