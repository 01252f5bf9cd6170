"""Runs one part in this process: `python -m benchmarks.gpu PART DEVICE SCALE FOLDER`.

`FOLDER/PART.csv` is written anew after every row, so that a kill loses none.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pandas as pd

from benchmarks.gpu import PARTS
from benchmarks.gpu.setting import TRAININGS, Setting
from benchmarks.timing import write


def run(part: str, device: str, scale: str, folder: str) -> None:
    """Print and write the rows of `part` as they come."""
    rows = []
    function = getattr(importlib.import_module(f"benchmarks.gpu.{PARTS[part].module}"), part)
    for row in function(Setting(device, scale, Path(folder))):
        rows.append(row)
        print(", ".join(f"{name} {_short(value)}" for name, value in row.items()), flush=True)
        write(pd.DataFrame(rows), Path(folder, f"{part}.csv"), device)
    shutil.rmtree(Path(folder, TRAININGS), ignore_errors=True)  # hundreds of MB


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run(*sys.argv[1:])
