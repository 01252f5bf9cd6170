"""Results of single runs, kept in work/ so that a stage over all runs measures what is new alone.

Few runs have class activation maps (Table 2) or snapshots (section 4.5) to measure. One DVC stage
goes through those that have, in one process; DVC clears its output before it runs, so each run's
part also lies in `work/kept/`, in a folder named by a hash of all that determines it. A stage that
was interrupted goes on where it was.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opmask.errors import UserError

KEPT = Path("work", "kept")
PACKAGE = Path(__file__).parents[1]
_DETECTING = ("roi_heads", "evaluation/inference", "evaluation/coco_ap", "evaluation/results")
INDEX = "runs.json"  # in a stage's output: the keys of the runs that it has


@dataclass(frozen=True)
class Part:
    """What a stage measures of one run.

    key: of the run. settings: JSON of all that determines the result beside the contents of
    `files`, code included. measure: writes the result into the empty folder that it is given.
    """

    key: str
    settings: Any
    files: Sequence[Path]
    measure: Callable[[Path], None]

    def name(self) -> str:
        """`<key>-<hash>`. Raises UserError if one of `files` is not there."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for path in self.files:
            if not path.is_file():
                raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"{self.key}-{digest.hexdigest()[:16]}"


def code(*names: str) -> list[Path]:
    """The modules of `opmask` that every measurement depends on, and `names` besides."""
    return [PACKAGE / f"{name}.py" for name in (*_DETECTING, *names)]


def collect(parts: Sequence[Part], out: Path, kept: Path) -> None:
    """Fill `out` with `INDEX` and `<key>/`, what each part measures, in place of what was there.

    Parts that `kept` (a folder in KEPT) has are not measured again; of each, only the newest stays.
    """
    names = {part.key: part.name() for part in parts}
    for part in parts:
        if not (kept / names[part.key]).is_dir():
            partial = _empty(kept / f"{part.key}.partial")
            part.measure(partial)
            partial.rename(kept / names[part.key])
    partial = _empty(out.with_name(f"{out.name}.partial"))
    (partial / INDEX).write_text(json.dumps(list(names), indent=1) + "\n")
    for key, name in names.items():
        shutil.copytree(kept / name, partial / key)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    _forget(names, kept)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _forget(names: dict[str, str], kept: Path) -> None:
    """Remove what earlier settings, weights or code gave for the same runs."""
    for path in kept.glob("*"):
        key = path.name.rpartition("-")[0]
        if names.get(key, path.name) != path.name:
            shutil.rmtree(path)
