"""Stage `inputs`: what lies in data_root, by names, sizes and times of modification.

DVC always runs it. Stage `data` depends on what it writes, `runs/<scale>/inputs.json`: so it runs
again whenever an annotation file or an image may have changed, and finds out whether one has.
Nothing is opened here: listing 100,000 images takes a second.
"""

import argparse
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import stage, write_json
from study.runs.store import adopt_all
from study.spec.params import data_root, load_params
from study.spec.paths import Paths

SETS = ("train", "val")


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    argparse.ArgumentParser(prog="python -m pipeline.inputs", description=__doc__).parse_args(argv)
    params = load_params()
    adopt_all(Paths.of(params))  # this stage is before all that clear what they made
    settings = params["scales"][params["scale"]]["data"]
    found = listing(data_root(params), settings)
    write_json(Paths.of(params).inputs, found)


def listing(root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the files that `scales.<scale>.data` names; of an embedded data set, nothing.

    By set: `annotations`, [size, mtime in ns] or null if missing; `files` below its image folder,
    and a `digest` of their names, sizes and times.
    """
    if settings.get("kind") != "coco":
        return {}
    return {name: _describe(root, settings, name) for name in SETS}


def _describe(root: Path, settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        state = (root / settings[f"{name}_annotations"]).stat()
        annotations = [state.st_size, state.st_mtime_ns]
    except OSError:
        annotations = None  # stage `data` says so
    rows = sorted(_files(str(root / settings[f"{name}_images"]), "", set()))
    digest = hashlib.sha256("".join(rows).encode(errors="surrogateescape")).hexdigest()
    return {"annotations": annotations, "files": len(rows), "digest": digest}


def _files(folder: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """A line a file, subfolders included; links are followed, though no folder is read twice."""
    try:
        own = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError:
        return
    if (own.st_dev, own.st_ino) in seen:
        return
    seen.add((own.st_dev, own.st_ino))
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/", seen)
        elif entry.is_file():
            state = entry.stat()
            yield f"{prefix}{entry.name}\0{state.st_size} {state.st_mtime_ns}\n"


if __name__ == "__main__":
    run()
