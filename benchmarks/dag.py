"""What `dvc repro` takes: with nothing to do, and from a fresh clone at a small scale.

A fresh clone is of the last commit, with its own DVC cache; the time goes to stages, of which the
runs' own are added up.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm import tqdm

from benchmarks import timing
from benchmarks.options import Options
from opmask.errors import UserError
from study.report.views import compute as facts

DVC = [sys.executable, "-m", "dvc", "repro"]
_RUNNING = re.compile(r"Running stage '([^'@]+)")


def no_op(options: Options) -> pd.DataFrame:
    """One row: median seconds in `--clone`; UserError if anything there is out of date."""
    if options.clone is None:
        raise UserError("noop: needs --clone, a clone in which `dvc repro` has finished")
    clone = options.clone
    _up_to_date(clone, "--dry")  # nothing is to be trained by mistake
    repeats = options.times(5)
    seconds = timing.interleaved({"noop": partial(_up_to_date, clone)}, repeats, "noop")
    stages = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    row = {"stages": len(stages), **seconds.median("noop"), "repeats": repeats}
    return pd.DataFrame([row])


def smoke(_options: Options) -> pd.DataFrame:
    """`dvc repro` at scale smoke in a fresh clone: rows as `by_stage`."""
    return _fresh("smoke")


def miniature(options: Options) -> pd.DataFrame:
    """The same at scale miniature; or, with --clone and --seconds, what one that ran has left."""
    if options.clone is None:
        return _fresh("miniature")
    if options.seconds is None:
        raise UserError("miniature: --clone needs --seconds, what `dvc repro` took there")
    return pd.DataFrame([{**records(options.clone, "miniature"), "total_s": options.seconds}])


def by_stage(events: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Seconds of each stage, its runs added up, from `(time, line of DVC's output)`; the last line
    ends the last stage."""
    seconds: dict[str, float] = defaultdict(float)
    name, before = "start", None
    for now, line in events:
        seconds[name] += now - (now if before is None else before)
        before = now
        if found := _RUNNING.search(line):
            name = found[1]
    return dict(seconds)


def _fresh(scale: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        params = clone / "params.yaml"
        text, changes = re.subn(r"(?m)^scale: \w+", f"scale: {scale}", params.read_text())
        if changes != 1:
            raise UserError("params.yaml: has not one line `scale: …`")
        params.write_text(text)
        stages = by_stage(_repro(clone))
        about = records(clone, scale)
    rows = pd.DataFrame([{"stage": s, "seconds": t} for s, t in stages.items()])
    return rows.sort_values("seconds", ascending=False).assign(
        total_s=sum(stages.values()), **about
    )


def _repro(clone: Path) -> Iterator[tuple[float, str]]:
    """Run `dvc repro`; each line that it prints, with the time; RuntimeError if it fails."""
    process = subprocess.Popen(
        DVC,
        cwd=clone,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield time.monotonic(), "started"
    last: list[str] = []
    for line in tqdm(process.stdout, desc=str(clone), unit="line", disable=None):
        last = [*last[-20:], line]
        yield time.monotonic(), line
    if process.wait():
        raise RuntimeError(f"dvc repro failed:\n{''.join(last)}")
    yield time.monotonic(), "ended"


def records(clone: Path, scale: str) -> dict[str, Any]:
    """What the trainings in a clone left of themselves: number, seconds, largest memory in GiB,
    commits, last date."""
    files = sorted((clone / "runs" / scale / "train").glob("*/provenance.json"))
    if not files:
        raise UserError(f"{clone}: no finished training at scale {scale}")
    found = [json.loads(path.read_text()) for path in files]
    return {
        "runs": len(found),
        "training_s": sum(f["wall_s"] for f in found),  # of which several side by side
        "peak_memory_gib": max(f["peak_memory_gib"] for f in found),
        "commit": facts.distinct(map(facts.commit, found)),
        "date": max(f["date"] for f in found),
    }


def _up_to_date(clone: Path, *words: str) -> None:
    output = _dvc(clone, *words)
    if "up to date" not in output:
        stale = _RUNNING.search(output)
        name = f"stage {stale[1]}" if stale else output.strip()[-200:]
        raise UserError(f"--clone: {clone}: not up to date: {name}")


def _dvc(clone: Path, *words: str) -> str:
    done = subprocess.run(
        [*DVC, *words], cwd=clone, env=_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"{clone}: dvc repro: {done.stderr.strip()[-300:]}")
    return done.stdout


def _environment() -> dict[str, str]:
    """With this Python as the `python` of the stages' commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
