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

import pandas as pd
import yaml

from benchmarks import timing
from opmask.errors import UserError


def noop(options: Namespace) -> pd.DataFrame:
    """`dvc repro` with nothing to do, in --clone; UserError if anything there is out of date."""
    if options.clone is None:
        raise UserError("noop: needs --clone, a clone in which `dvc repro` has finished")
    clone, repeats = options.clone, options.repeats or 5
    _up_to_date(clone, "--dry")  # nothing is to be trained by mistake
    rows = timing.interleaved({"noop": partial(_up_to_date, clone)}, repeats)
    stages = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    return rows[["wall_s", "cpu_s"]].assign(stages=len(stages), repeats=repeats)


def miniature(_options: Namespace) -> pd.DataFrame:
    """`dvc repro` as the repository has it, in a fresh clone; an hour."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        started = time.monotonic()
        _repro(clone)
        return trainings(clone, "miniature").assign(total_s=time.monotonic() - started)


def trainings(clone: Path, scale: str) -> pd.DataFrame:
    """One row, what the trainings in a clone left of themselves: their number, seconds (several
    train side by side), and largest memory."""
    files = sorted((clone / "runs" / scale / "train").glob("*/provenance.json"))
    if not files:
        raise UserError(f"{clone}: no finished training at scale {scale}")
    found = pd.DataFrame([json.loads(path.read_text()) for path in files])
    sums = {"training_s": found["wall_s"].sum(), "peak_memory_gib": found["peak_memory_gib"].max()}
    return pd.DataFrame([{"runs": len(found), **sums}])


def _up_to_date(clone: Path, *words: str) -> None:
    """Run `dvc repro`; UserError if it runs more than the stages that it always runs."""
    stages = yaml.safe_load((clone / "dvc.yaml").read_text())["stages"]
    ran = re.findall(r"Running stage '([^']+)'", _repro(clone, *words))
    if stale := [name for name in ran if not stages.get(name, {}).get("always_changed")]:
        raise UserError(f"--clone: {clone}: not up to date: stage {stale[0]!r}")


def _repro(clone: Path, *words: str) -> str:
    """What `dvc repro` says, progress aside; its stages' `python` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", *words],
        cwd=clone,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise UserError(f"{clone}: dvc repro failed: {done.stdout.strip()[-300:]}")
    return done.stdout
