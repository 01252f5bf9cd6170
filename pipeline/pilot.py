"""Trains each planned kind of run (METHOD-BACKBONE) for some iterations, on this machine and your
data, in a folder in work/ of which nothing stays: its speed, memory, days left, what would fail.

Run it after `dvc repro data`. Exit status 1 says that something would fail: too little space, a
folder that cannot be written to, missing weights, images that cannot be read, supervised classes
without masks, a loss that is not finite or, from 100 iterations on, does not fall. Where the warm
start is not trained yet, weights are random. Days are of training and detection alone.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from opmask.data.coco import load_manifest
from opmask.errors import UserError
from pipeline import command
from study.format import MISSING
from study.runs.progress import makespan, run_progress
from study.runs.side_by_side import places_for
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import Run, all_runs, load_specification, shared_specifications

Row = dict[str, Any]
# Of the csv: what the table calls them, and how it writes them.
COLUMNS = {
    "kind": ("Kind", ""),
    "weights": ("Weights", ""),
    "iterations_per_s": ("Iterations/s", ".2f"),
    "images_per_s": ("Images/s", ".1f"),
    "memory_gib": ("Memory, GiB", ".2f"),
    "gpu_memory_gib": ("GPU, GiB", ".2f"),
    "checkpoint_s": ("Checkpoint, s", ".2f"),
    "checkpoint_mb": ("MB", ".0f"),
    "detection_images_per_s": ("Detection, images/s", ".1f"),
    "runs_left": ("Runs left", ""),
    "iterations_left": ("Iterations", ","),
    "days_left": ("Days left", ".2g"),
}


@command
def run(argv: Sequence[str]) -> None:
    """Train, detect, check; print the table and what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.pilot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--iterations", type=int, default=200, help="of each kind, 10 at least")
    parser.add_argument("--images", type=int, default=200, help="to detect in")
    parser.add_argument("--out", type=Path, help="also write the table to this csv file")
    args = parser.parse_args(argv)
    for name, least in (("iterations", 10), ("images", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name}: {getattr(args, name)} is below {least}")
    params = load_params()
    require_data(params)
    from study.runs import pilot  # torch and detectron2: seconds of start-up

    found = pilot.unwritable_folders(params)
    if not found:  # where it could not work either
        found = _pilot(params, args.iterations, args.images, args.out)
    print("\nWould fail:" if found else "\nNothing was found that would fail.")
    for one in dict.fromkeys(found):
        print(f"- {one}")
    sys.exit(1 if found else 0)


def _pilot(
    params: Mapping[str, Any], iterations: int, detected: int, out: Path | None
) -> list[str]:
    """Print the table, and write it to `out`; returns what would fail."""
    from study.runs import pilot

    manifest = load_manifest(Paths.of(params).manifest)
    images = manifest.val.counts["images"]
    places = places_for(len(all_runs(params)), params["hardware"])
    found = pilot.classes_without_masks(params, manifest) + pilot.unreadable_images(manifest)
    # The only place has all that this process has, as in stage `train`.
    rows = pilot.measure(params, iterations, detected, places if len(places) > 1 else [{}])
    left = {run: run_progress(run, params).left for run in all_runs(params)}
    found += [one for row in rows for one in row["troubles"]]
    found += pilot.lacking_space(
        [run for run in left if left[run]], rows, params, images, len(places)
    )
    add_days_left(rows, left, params, images, len(places))
    headers, formats = zip(*COLUMNS.values(), strict=True)
    cells = [[row.get(name) for name in COLUMNS] for row in rows]
    print(tabulate(cells, headers, floatfmt=formats, intfmt=",", missingval=MISSING))
    print(f"{len(places)} at a time; {iterations} iterations each")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(cells, columns=list(COLUMNS)).to_csv(out, index=False)
    return found


def require_data(params: Mapping[str, Any]) -> None:
    """Raises UserError unless the data set was checked with the present parameters."""
    paths = Paths.of(params)
    planned = paths.planned("data")
    is_current = planned.is_file() and paths.manifest.is_file()
    if not is_current or load_specification(planned) != shared_specifications(params)["data"]:
        raise UserError(f"{paths.manifest}: missing, or of other parameters; run dvc repro data")


def add_days_left(
    rows: list[Row], left: Mapping[Run, int], params: Mapping[str, Any], images: int, places: int
) -> None:
    """Add `runs_left`, `iterations_left` and `days_left` to the rows of kinds, and a row "all".

    left: iterations of each planned run. images: in which each run detects.
    """
    kinds = {row["kind"]: row for row in rows}
    period = params["scales"][params["scale"]]["checkpoint_period"]
    seconds = {}
    for run, number in left.items():
        with suppress(KeyError):  # it could not be measured
            row = kinds[run.kind]
            training = number / row["iterations_per_s"] + number // period * row["checkpoint_s"]
            seconds[run] = training + images / row["detection_images_per_s"]
    rows.append({"kind": "all"})
    for row in rows:
        runs = [run for run in left if left[run] and row["kind"] in (run.kind, "all")]
        row |= {"runs_left": len(runs), "iterations_left": sum(left[run] for run in runs)}
        if seconds.keys() >= set(runs):
            row["days_left"] = makespan([seconds[run] for run in runs], places) / 86400


if __name__ == "__main__":
    run()
