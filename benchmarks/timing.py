"""Comparisons that hold on a busy machine: in turn, within one run, medians over repeats.

And the rows they make, each with what a reader must know of its origin.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
from tqdm import tqdm

from opmask.integrity import write_durably
from study.runs import provenance

PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "hotcoco", "dvc")


def interleaved(
    actions: Mapping[str, Callable[[], Any]], repeats: int, label: str = "way"
) -> pd.DataFrame:
    """One row an action, by name (`label`): medians over the rounds.

    All are called once before it counts. Every second round goes backwards, so that a slow spell
    of the machine meets first and last alike.

    Columns: `wall_s`; `cpu_s`, processor time of this process and its children, which tells more
    on a busy machine; `ratio` and `cpu_ratio`, to the first action in the same round. Numbers in a
    dict that an action returns are added, or replace what it did elsewhere (`cpu_s`).
    """
    for action in actions.values():
        action()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in actions}
    for number in tqdm(range(repeats), unit="round", disable=None):
        for name in list(actions)[:: -1 if number % 2 else 1]:
            rounds[name].append(_timed(actions[name]))
    frames = {name: pd.DataFrame(found) for name, found in rounds.items()}
    first = next(iter(frames.values()))[["wall_s", "cpu_s"]]
    for frame in frames.values():
        frame[["ratio", "cpu_ratio"]] = frame[["wall_s", "cpu_s"]] / first
    return pd.DataFrame({name: frame.median() for name, frame in frames.items()}).T.rename_axis(
        label
    )


def _timed(action: Callable[[], Any]) -> dict[str, float]:
    before, start = _processor(), time.perf_counter()
    answer = action()
    own = {"wall_s": time.perf_counter() - start, "cpu_s": _processor() - before}
    return own | answer if isinstance(answer, dict) else own


def _processor() -> float:
    """Seconds of processor time of this process and the children it has waited for."""
    return sum(os.times()[:4])


def write(results: pd.DataFrame, path: Path, device: str = "cpu") -> None:
    """Write `results` whole or not at all, each row with machine, versions, commit and date."""
    commit, dirty = provenance.current_commit()
    memory = round(psutil.virtual_memory().total / 2**30)
    system = f"{platform.system()} {platform.machine()}"
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    origin = {
        "machine": f"{system}, {os.cpu_count()} cores, {memory} GiB",
        "cpu": provenance.cpu_name(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "versions": "; ".join([f"Python {platform.python_version()}", *versions]),
        "commit": f"{commit}{'+changes' if dirty else ''}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    text = results.assign(**origin).to_csv(index=False, float_format="%.4g")
    write_durably(path, text)
