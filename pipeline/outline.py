"""Prints the plan before anything starts: every run, its length, the tables and figures that need
it, whether it is done, and the time that is left.

Times are from the scale's finished runs, else from what trainings log, a minute after they begin.
"""

import argparse
import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from opmask.errors import main
from opmask.training.hardware import places
from study.format import duration
from study.runs.outline import CACHED, OVER, Line, incomplete, outline, total
from study.runs.pace import known_paces
from study.spec.params import load_params
from study.spec.run import all_runs

EPILOG = """
states, beside those of `python -m pipeline.status --help`:
  in DVC's cache  trained before with the present settings; dvc repro restores it
"""


@main
def run(argv: Sequence[str]) -> None:
    """Print the plan of params.yaml."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.outline",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    params = load_params()
    side_by_side = len(places(params["hardware"], gpus_present()))
    print(page(outline(params, known_paces(params)), params, side_by_side))


def gpus_present() -> int:
    """GPUs that a training would see; asks the driver, as torch takes seconds to import."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    if not shutil.which("nvidia-smi"):
        return 0
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len([line for line in done.stdout.splitlines() if line.startswith("GPU ")])


def page(lines: Sequence[Line], params: Mapping[str, Any], side_by_side: int) -> str:
    """The plan for people."""
    schedule, runs = str(params["schedule"]), all_runs(params)
    seeds = ", ".join(map(str, params["seeds"]))
    parts = [f"Scale {params['scale']}, schedule {schedule}, seeds {seeds}", table(lines)]
    lacking = incomplete(runs, schedule)
    if lacking:
        results = ", ".join(f"{name} ({count})" for name, count in lacking.items())
        parts.append(f"Lack so many of their runs in params.yaml: {results}")
    return "\n\n".join([*parts, summary(lines, side_by_side)])


def table(lines: Sequence[Line]) -> str:
    """A line a training."""
    rows = [
        {
            "Run": line.progress.name,
            "Iterations": f"{line.progress.total:,}",
            "Needed by": line.needed,
            "State": line.progress.state,
            "Time left": _time(line),
        }
        for line in lines
    ]
    align = ["left", "right", "left", "left", "right"]
    return tabulate(rows, headers="keys", disable_numparse=True, colalign=align)


def _time(line: Line) -> str:
    if line.progress.state in OVER:
        return ""
    return "unknown" if math.isnan(line.seconds) else duration(line.seconds)


def summary(lines: Sequence[Line], side_by_side: int) -> str:
    """Totals: what is done, what is left, how long that takes and how this is known."""
    found, trainings = total(lines, side_by_side), [line.progress for line in lines]
    states = ("published", CACHED)
    left = [one for one in trainings if one.state not in states]
    counts = [f"{state}: {sum(one.state == state for one in trainings)}" for state in states]
    done = f"{len(lines)} trainings, of which {', '.join(counts)}"
    if not left:
        return f"{done}; nothing is left to train"
    iterations = sum(one.left for one in left)
    texts = [f"{done}, left: {len(left)} with {iterations:,} iterations"]
    how = f"{side_by_side} at a time" if side_by_side > 1 else "one after the other"
    parts = f"warm start {duration(found.warm_start)}, runs, {how}, {duration(found.runs)}"
    known = duration(found.warm_start + found.runs)
    texts.append(f"Time left, without tables and figures: {known} ({parts})")
    if found.unknown:
        texts[-1] += f", and what is unknown: {', '.join(found.unknown)}"
        texts.append("It is known a minute after the first run of a kind has begun")
    sources = sorted({line.source for line in lines if line.source})
    if sources:
        texts.append(f"Times are from: {', '.join(sources)}")
    return "\n".join(texts)


if __name__ == "__main__":
    run()
