"""What `dvc repro` takes: with nothing to do, and from a fresh clone.

A fresh clone is of the last commit, with its own DVC cache.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks import timing
from opmask.errors import UserError


def noop(options: Namespace) -> pd.DataFrame:
    """One row: median seconds in `--clone`; UserError if anything there is out of date."""
    if options.clone is None:
        raise UserError("noop: needs --clone, a clone in which `dvc repro` has finished")
    clone, repeats = options.clone, options.repeats or 5
    _up_to_date(clone, "--dry")  # nothing is to be trained by mistake
    seconds = timing.interleaved({"noop": partial(_up_to_date, clone)}, repeats, "noop")
    stages = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    return pd.DataFrame([{"stages": len(stages), **seconds.median("noop"), "repeats": repeats}])


def miniature(_options: Namespace) -> pd.DataFrame:
    """One row: `dvc repro` as the repository has it, in a fresh clone."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        started = time.monotonic()
        _repro(clone, show=True)
        seconds = time.monotonic() - started
        return pd.DataFrame([{**records(clone, "miniature"), "total_s": seconds}])


def records(clone: Path, scale: str) -> dict[str, Any]:
    """What the trainings in a clone left of themselves: number, seconds, largest memory in GiB,
    commits, last date."""
    files = sorted((clone / "runs" / scale / "train").glob("*/provenance.json"))
    if not files:
        raise UserError(f"{clone}: no finished training at scale {scale}")
    found = [json.loads(path.read_text()) for path in files]
    commits = {f"{f['commit']}{'+changes' if f.get('dirty') else ''}" for f in found}
    return {
        "runs": len(found),
        "training_s": sum(f["wall_s"] for f in found),  # of which several side by side
        "peak_memory_gib": max(f["peak_memory_gib"] for f in found),
        "commit": "; ".join(sorted(commits)),
        "date": max(f["date"] for f in found),
    }


def _up_to_date(clone: Path, *words: str) -> None:
    output = _repro(clone, *words)
    if "up to date" not in output:
        stale = re.search(r"Running (stage '[^']+')", output)
        name = stale[1] if stale else output.strip()[-200:]
        raise UserError(f"--clone: {clone}: not up to date: {name}")


def _repro(clone: Path, *words: str, show: bool = False) -> str:
    """What `dvc repro` prints, unless it is shown; its stages' `python` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", *words],
        cwd=clone,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=not show,
        text=True,
    )
    if done.returncode:
        why = "see above" if show else done.stderr.strip()[-300:]
        raise UserError(f"{clone}: dvc repro failed: {why}")
    return done.stdout or ""
