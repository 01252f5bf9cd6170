"""Measures single trained runs, so that a stage over all of them measures only what is new."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opmask.errors import UserError
from opmask.integrity import empty_folder, publish
from study.runs.folders import key
from study.runs.side_by_side import Task, places_for, run_side_by_side
from study.runs.store import Store

PRELOADED = ["opmask.evaluation.inference", "opmask.evaluation.coco_ap"]  # seconds a process, else


@dataclass(frozen=True)
class Measurement:
    """What a stage measures of one run.

    key: of the run. modules: whose code measures it. settings: JSON of all else that determines the
    result beside the contents of `files`. measure: writes the result into the empty folder that it
    is given; it may run in another process and is pickled then.
    """

    key: str
    modules: Sequence[str]
    settings: Any
    files: Sequence[Path]
    measure: Callable[[Path], None]

    def name(self) -> str:
        """`<key>-<hash>`. Raises UserError if one of `files` is not there."""
        for path in self.files:
            if not path.is_file():
                raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)")
        return f"{self.key}-{key(self.modules, self.settings, self.files)[:16]}"


def collect(
    wanted: Sequence[Measurement],
    out: Path,
    store: Store,
    hardware: Mapping[str, Any] | None = None,
) -> None:
    """Fill `out` with what each of `wanted` gives (`Store.fill`).

    What `store`, of this stage alone, has is not measured again. With `hardware` (of
    `params.yaml`), several are measured side by side, as runs train.
    """
    names = {one.key: one.name() for one in wanted}
    tasks = [
        Task(one.key, partial(_measure, one, store, names[one.key]))
        for one in wanted
        if not store.has(names[one.key])
    ]
    environments = places_for(len(wanted), hardware) if hardware and tasks else []
    if len(environments) > 1:
        _side_by_side(tasks, environments, store)
    else:
        for task in tasks:
            task.call()
    store.fill(out, names)


def _measure(one: Measurement, store: Store, name: str) -> None:
    if one.name() != name:  # in another process, which may have been started after an edit
        raise UserError("code, data or parameters were changed meanwhile: repeat dvc repro")
    target = store.folder(name)
    unfinished = empty_folder(target.with_name(f"{one.key}.partial"))
    one.measure(unfinished)
    publish(unfinished, target)


def _side_by_side(
    tasks: Sequence[Task], environments: Sequence[Mapping[str, str]], store: Store
) -> None:
    places = [{**place, "TQDM_DISABLE": "1"} for place in environments]
    with tqdm(desc=store.root.name, total=len(tasks), unit="run") as bar:

        def watch(waiting: Sequence[Task], running: Sequence[Task]) -> None:
            bar.update(len(tasks) - len(waiting) - len(running) - bar.n)

        logs = store.root / "logs"
        run_side_by_side(tasks, places, logs, watch=watch, preload=PRELOADED)
