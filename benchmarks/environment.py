"""What every CSV says of its origin: machine, versions, commit, date."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
import torch

from study.runs import provenance

PACKAGES = ("torch", "torchvision", "numpy", "pycocotools", "hotcoco", "dvc")


def environment(device: str = "cpu") -> dict[str, str]:
    """The columns, by name."""
    commit, dirty = provenance.current_commit()
    memory = round(psutil.virtual_memory().total / 2**30)
    system = f"{platform.system()} {platform.machine()}"
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    return {
        "machine": f"{system}, {os.cpu_count()} cores, {memory} GiB",
        "cpu": provenance.cpu_name(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "versions": "; ".join([f"Python {platform.python_version()}", *versions]),
        "commit": f"{commit}{'+changes' if dirty else ''}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def write(results: pd.DataFrame, path: Path, device: str = "cpu") -> pd.DataFrame:
    """Write `results` with the environment beside every row; returns what was written.

    What `results` say of it themselves holds: they may be of another checkout than this.
    """
    about = {key: value for key, value in environment(device).items() if key not in results}
    frame = results.assign(**about)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.4g")
    return frame
