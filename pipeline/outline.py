"""Prints the plan before anything starts: every run, its length, the tables and figures that need
it, whether it is done, and about how long it will take.

Times are by what trainings of the same kind logged, also by one that has just begun. States are
those of `python -m pipeline.status --help`.
"""

import argparse
import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from opmask.training.hardware import places
from pipeline import command
from study.format import duration
from study.runs.outline import abbreviate, incomplete, needed_by
from study.runs.progress import OVER, Progress, makespan, progress, seconds_left
from study.spec.params import load_params
from study.spec.run import all_runs


@command
def run(argv: Sequence[str]) -> None:
    """Print the plan of params.yaml."""
    argparse.ArgumentParser(
        prog="python -m pipeline.outline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    params = load_params()
    side_by_side = len(places(params["hardware"], gpus_present()))
    print(page(progress(params), params, side_by_side))


def gpus_present() -> int:
    """GPUs that a training would see; asks the driver, as torch takes seconds to import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    if not shutil.which("nvidia-smi"):
        return 0
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len([line for line in done.stdout.splitlines() if line.startswith("GPU ")])


def page(found: Sequence[Progress], params: Mapping[str, Any], side_by_side: int) -> str:
    """The plan for people; `found` is `progress(params)`."""
    schedule, runs = str(params["schedule"]), all_runs(params)
    needs = {run.key: abbreviate(needed_by(run, schedule)) for run in runs}
    rows = [
        {
            "Run": one.name,
            "Iterations": f"{one.total:,}",
            "Needed by": needs.get(one.name, "all runs"),
            "State": one.state,
            "Time left": _time(one, seconds),
        }
        for one, seconds in zip(found, seconds_left(found), strict=True)
    ]
    align = ["left", "right", "left", "left", "right"]
    table = tabulate(rows, headers="keys", disable_numparse=True, colalign=align)
    seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
    parts = [f"Scale {params['scale']}, schedule {schedule}, seeds {seeds}", table]
    lacking = ", ".join(f"{name} ({n})" for name, n in incomplete(runs, schedule).items())
    if lacking:
        parts.append(f"Lack so many of their runs in params.yaml: {lacking}")
    return "\n\n".join([*parts, summary(found, len(found) - len(runs), side_by_side)])


def _time(one: Progress, seconds: float) -> str:
    if one.state in OVER:
        return ""
    return "unknown" if math.isnan(seconds) else duration(seconds)


def summary(found: Sequence[Progress], phases: int, side_by_side: int) -> str:
    """Totals: what is done, what is left, and how long that takes as far as it is known.

    phases: how many of `found`, the first ones, are of the warm start, one after the other.
    """
    left = [one for one in found if one.state not in OVER]
    done = f"{len(found)} trainings, of which done: {len(found) - len(left)}"
    if not left:
        return f"{done}; nothing is left to train"
    known = [0.0 if math.isnan(seconds) else seconds for seconds in seconds_left(found)]
    unknown = dict.fromkeys(
        one.kind for one, s in zip(found, seconds_left(found), strict=True) if math.isnan(s)
    )
    warm_start, runs = sum(known[:phases]), makespan(known[phases:], side_by_side)
    how = f"{side_by_side} at a time" if side_by_side > 1 else "one after the other"
    texts = [
        f"{done}, left: {len(left)} with {sum(one.left for one in left):,} iterations",
        f"Time left, without evaluation, tables and figures: {duration(warm_start + runs)} "
        f"(warm start {duration(warm_start)}, runs, {how}, {duration(runs)})",
    ]
    if unknown:
        texts[-1] += f", and what is unknown: {', '.join(unknown)}"
        texts.append("It is known a minute after the first run of a kind has begun")
    return "\n".join(texts)


if __name__ == "__main__":
    run()
