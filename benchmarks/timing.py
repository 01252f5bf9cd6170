"""Comparisons that hold on a busy machine: in turn, within one run, medians over repeats.

And the rows they make, each with what a reader must know of its origin.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
from tqdm import tqdm

from study.runs import provenance

PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "hotcoco", "dvc")


@dataclass(frozen=True)
class Seconds:
    """Of several actions, a column each, a row a round: on the wall clock, and of processor time.

    With one thread they are equal on an idle machine; on a busy one the latter tells more.
    """

    wall: pd.DataFrame
    cpu: pd.DataFrame

    def median(self, action: str) -> dict[str, float]:
        """`wall_s` and `cpu_s` of an action."""
        return {"wall_s": self.wall[action].median(), "cpu_s": self.cpu[action].median()}

    def ratio(self, over: str, under: str) -> dict[str, float]:
        """Medians over the rounds of `over`'s seconds / `under`'s: `ratio` and `cpu_ratio`."""
        return {
            "ratio": (self.wall[over] / self.wall[under]).median(),
            "cpu_ratio": (self.cpu[over] / self.cpu[under]).median(),
        }


def interleaved(
    actions: Mapping[str, Callable[[], float | None]], repeats: int, description: str = ""
) -> Seconds:
    """Seconds of every action.

    All are called once before it counts. Every second round goes backwards, so that a slow spell
    of the machine meets first and last alike. An action that does its work in another process
    returns the processor time it took there; else it is this process's and its children's.
    """
    for action in actions.values():
        action()
    wall, cpu = [], []
    for number in tqdm(range(repeats), desc=description, unit="round", disable=None):
        order = list(actions)[:: -1 if number % 2 else 1]
        times = {name: _timed(actions[name]) for name in order}
        wall.append({name: seconds for name, (seconds, _) in times.items()})
        cpu.append({name: seconds for name, (_, seconds) in times.items()})
    columns = list(actions)
    return Seconds(pd.DataFrame(wall, columns=columns), pd.DataFrame(cpu, columns=columns))


def against(
    rival: str, ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[Any, Any, dict[str, float]]:
    """What both compute, and the numbers of a row: our seconds, theirs, how many times ours."""
    results: dict[str, Any] = {}

    def act(name: str, function: Callable[[], Any]) -> None:
        results[name] = function()

    actions = {n: partial(act, n, f) for n, f in (("ours", ours), (rival, theirs))}
    seconds = interleaved(actions, repeats, rival)
    row = {**seconds.median("ours"), f"{rival}_s": seconds.median(rival)["wall_s"]}
    return results["ours"], results[rival], row | seconds.ratio(rival, "ours")


def write(results: pd.DataFrame, path: Path, device: str = "cpu") -> pd.DataFrame:
    """Write `results` with machine, versions, commit and date in every row; returns that.

    What `results` say of it themselves holds: they may be of another checkout than this.
    """
    frame = results.assign(**{k: v for k, v in _origin(device).items() if k not in results})
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.4g")
    return frame


def _origin(device: str) -> dict[str, str]:
    commit, dirty = provenance.current_commit()
    memory = round(psutil.virtual_memory().total / 2**30)
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{memory} GiB",
        "cpu": provenance.cpu_name(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "versions": "; ".join([f"Python {platform.python_version()}", *versions]),
        "commit": f"{commit}{'+changes' if dirty else ''}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _timed(action: Callable[[], float | None]) -> tuple[float, float]:
    before, start = _processor(), time.perf_counter()
    elsewhere = action()
    wall = time.perf_counter() - start
    return wall, _processor() - before if elsewhere is None else elsewhere


def _processor() -> float:
    """Seconds of processor time of this process and the children it has waited for."""
    return sum(os.times()[:4])
