"""A cache of what stages measure of single runs, so that a stage over all measures what is new.

Few runs have class activation maps (Table 2) or snapshots (section 4.5) to measure. One DVC stage
goes through those that have; DVC clears its output before it runs, so each measurement also lies in
`Paths.measured`, in a folder named by a hash of all that determines it. A stage that was
interrupted goes on where it was.
"""

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
from opmask.integrity import empty_folder, publish, require_whole
from opmask.training.hardware import places_here
from study.runs.folders import key
from study.runs.side_by_side import Task, run_side_by_side

INDEX = "runs.json"  # in a stage's output: the keys of the runs that it has


@dataclass(frozen=True)
class Measurement:
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
        for path in self.files:
            if not path.is_file():
                raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
        return f"{self.key}-{key(self.module, self.settings, self.files)[:16]}"


def collect(
    wanted: Sequence[Measurement],
    out: Path,
    cache: Path,
    hardware: Mapping[str, Any] | None = None,
) -> None:
    """Fill `out` with `INDEX` and `<key>/`, what each of `wanted` gives, in place of what it had.

    What `cache`, a folder of this stage alone, has is not measured again; of each run the newest
    stays. With `hardware` (of `params.yaml`), several are measured side by side, as runs train.
    """
    names = {one.key: one.name() for one in wanted}
    tasks = [
        Task(one.key, partial(_measure, one, cache / names[one.key]))
        for one in wanted
        if not _is_there(cache / names[one.key])
    ]
    environments = places_here(hardware) if hardware and len(tasks) > 1 else []
    if len(environments) > 1:
        _side_by_side(tasks, environments, cache)
    else:
        for task in tasks:
            task.call()
    partial_out = empty_folder(out.with_name(f"{out.name}.partial"))
    (partial_out / INDEX).write_text(json.dumps(list(names), indent=1) + "\n")
    for run, name in names.items():
        shutil.copytree(cache / name, partial_out / run)
    publish(partial_out, out)
    _forget(names, cache)


def _is_there(folder: Path) -> bool:
    """Whether a result is there; one that is damaged is named in a warning."""
    if not folder.is_dir():
        return False
    try:
        require_whole(folder, remedy="it is measured again")
    except UserError as error:
        warnings.warn(str(error), stacklevel=3)
        return False
    return True


def _measure(one: Measurement, target: Path) -> None:
    unfinished = empty_folder(target.with_name(f"{one.key}.partial"))
    one.measure(unfinished)
    publish(unfinished, target)


def _side_by_side(
    tasks: Sequence[Task], environments: Sequence[Mapping[str, str]], cache: Path
) -> None:
    places = [{**place, "TQDM_DISABLE": "1"} for place in environments]
    with tqdm(desc=cache.name, total=len(tasks), unit="run") as bar:

        def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
            bar.update(len(tasks) - len(waiting) - len(running) - bar.n)

        run_side_by_side(tasks, places, cache / "logs", watch=watch)


def _forget(names: Mapping[str, str], cache: Path) -> None:
    """Remove what earlier settings, weights or code gave for the same runs."""
    for path in cache.glob("*"):
        run = path.name.rpartition("-")[0]
        if names.get(run, path.name) != path.name:
            shutil.rmtree(path)
