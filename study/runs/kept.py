"""Results of single runs, kept in work/ so that a stage over all runs measures what is new alone.

Few runs have class activation maps (Table 2) or snapshots (section 4.5) to measure. One DVC stage
goes through those that have; DVC clears its output before it runs, so each run's part also lies in
`work/kept/`, in a folder named by a hash of all that determines it. A stage that was interrupted
goes on where it was.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opmask.errors import UserError
from opmask.integrity import empty_folder, publish, require_whole, sha256
from opmask.training.hardware import places_here
from study.runs.side_by_side import Task, run_side_by_side
from study.spec.code import code_of

KEPT = Path("work", "kept")
INDEX = "runs.json"  # in a stage's output: the keys of the runs that it has


@dataclass(frozen=True)
class Part:
    """What a stage measures of one run.

    key: of the run. module: whose code measures it. settings: JSON of all else that determines the
    result beside the contents of `files`. measure: writes the result into the empty folder that it
    is given; to run in another process it must be picklable.
    """

    key: str
    module: str
    settings: Any
    files: Sequence[Path]
    measure: Callable[[Path], None]

    def name(self) -> str:
        """`<key>-<hash>`. Raises UserError if one of `files` is not there."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        digest.update(code_of(self.module).encode())
        for path in self.files:
            if not path.is_file():
                raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
            digest.update(bytes.fromhex(sha256(path)))
        return f"{self.key}-{digest.hexdigest()[:16]}"


def collect(
    parts: Sequence[Part], out: Path, kept: Path, hardware: Mapping[str, Any] | None = None
) -> None:
    """Fill `out` with `INDEX` and `<key>/`, what each part measures, in place of what was there.

    Parts that `kept` (a folder in KEPT) has are not measured again; of each, only the newest stays.
    With `hardware` (of `params.yaml`), several runs are measured side by side as they are trained.
    """
    names = {part.key: part.name() for part in parts}
    missing = [part for part in parts if not _is_kept(kept / names[part.key])]
    environments = places_here(hardware) if hardware and len(missing) > 1 else []
    if len(environments) > 1:
        _side_by_side(missing, names, kept, environments)
    else:
        for part in missing:
            _measure(part, kept / names[part.key])
    partial = empty_folder(out.with_name(f"{out.name}.partial"))
    (partial / INDEX).write_text(json.dumps(list(names), indent=1) + "\n")
    for key, name in names.items():
        shutil.copytree(kept / name, partial / key)
    publish(partial, out)
    _forget(names, kept)


def _is_kept(folder: Path) -> bool:
    """Whether a result is there; one that is damaged is named in a warning."""
    if not folder.is_dir():
        return False
    try:
        require_whole(folder, remedy="it is measured again")
    except UserError as error:
        warnings.warn(str(error), stacklevel=3)
        return False
    return True


def _measure(part: Part, target: Path) -> None:
    partial = empty_folder(target.with_name(f"{part.key}.partial"))
    part.measure(partial)
    publish(partial, target)


def _side_by_side(
    parts: Sequence[Part],
    names: Mapping[str, str],
    kept: Path,
    environments: Sequence[Mapping[str, str]],
) -> None:
    tasks = [Task(part.key, partial(_measure, part, kept / names[part.key])) for part in parts]
    places = [{**place, "TQDM_DISABLE": "1"} for place in environments]
    with tqdm(desc=kept.name, total=len(tasks), unit="run") as bar:

        def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
            bar.update(len(tasks) - len(waiting) - len(running) - bar.n)

        run_side_by_side(tasks, places, kept / "logs", watch=watch)


def _forget(names: dict[str, str], kept: Path) -> None:
    """Remove what earlier settings, weights or code gave for the same runs."""
    for path in kept.glob("*"):
        key = path.name.rpartition("-")[0]
        if names.get(key, path.name) != path.name:
            shutil.rmtree(path)
