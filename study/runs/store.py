"""A store of finished results of single runs, from which a stage over all runs fills its output.

DVC clears a stage's output before it runs the stage. So what was made of each run also lies here,
sealed, in a folder named by a hash of all that determines it: a stage that was interrupted, or for
which one run is new, makes what is missing. Output and store share the disk, by hard links, where
the file system can.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opmask.errors import UserError
from opmask.integrity import SUMS, empty_folder, is_sealed, publish, require_whole, seal
from study.spec.paths import PUBLISHED, WEIGHTS, Paths

INDEX = "runs.json"  # in an output: by run, the name that its result has in the store
_HASH = "[0-9a-f]{12,64}"
_REMOVED = ".removed-"


@dataclass(frozen=True)
class Store:
    """Results lie in `<root>/<prefix><run>-<hash>/<inner>`.

    keeps_all: nothing is forgotten, as others use the same store.
    """

    root: Path
    prefix: str = ""
    inner: str = ""
    keeps_all: bool = False

    def folder(self, name: str) -> Path:
        """Where the result `name`, `<prefix><run>-<hash>`, lies or will lie."""
        return self.root / name / self.inner

    def has(self, name: str) -> bool:
        """Whether a result is there; one that is damaged is named in a warning and removed."""
        folder = self.folder(name)
        if not folder.is_dir():
            return False
        try:
            require_whole(folder, remedy="it is made again")
        except UserError as error:
            warnings.warn(str(error), stacklevel=3)
            shutil.rmtree(folder)
            return False
        return True

    def fill(self, out: Path, names: Mapping[str, str]) -> None:
        """Put `INDEX` and `<run>/` of each of `names`, by run, in place of `out`.

        Of each of these runs, other finished results are forgotten.
        """
        partial = empty_folder(out.with_name(f"{out.name}.partial"))
        (partial / INDEX).write_text(json.dumps(names, indent=1) + "\n")
        seal(partial)  # the index; each run has its own checksums
        for run, name in names.items():
            _link(self.folder(name), partial / run)
        publish(partial, out)
        self.forget(names)

    def adopt(self, out: Path) -> None:
        """Take over what `out` has and the store has not, as after `dvc pull` in a fresh clone.

        What both have shares the disk again: DVC makes a copy of each link. A name that `out` gives
        is of this store's form or not used, and what is damaged stays where it is.
        """
        for run, name in _index(out).items():
            form = rf"{re.escape(self.prefix + run)}-{_HASH}"
            if Path(run).name == run and isinstance(name, str) and re.fullmatch(form, name):
                self._adopt(out / run, self.folder(name))

    def _adopt(self, result: Path, target: Path) -> None:
        sums, ours = result / SUMS, target / SUMS
        if not sums.is_file() or (ours.is_file() and os.path.samefile(sums, ours)):
            return
        if is_sealed(target) and sums.read_bytes() != ours.read_bytes():
            return  # made twice: its times differ
        try:
            require_whole(result, remedy="")
        except UserError:
            return  # the stages that read it say so
        partial = target.with_name("adopted.partial" if self.inner else f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        _link(result, partial)
        publish(partial, target)

    def forget(self, names: Mapping[str, str]) -> None:
        """Remove finished results of the runs in `names`, by run, that have another name."""
        if self.keeps_all:
            return
        form = re.compile(rf"{re.escape(self.prefix)}(.+)-{_HASH}")
        for path in self.root.glob(f"{_REMOVED}*"):
            shutil.rmtree(path)
        for path in self.root.glob(f"{self.prefix}*"):
            run = form.fullmatch(path.name)
            is_other = run is not None and names.get(run[1], path.name) != path.name
            is_finished = self.folder(path.name).exists() and not is_locked(path)
            if is_other and is_finished and not path.is_symlink():
                # Renamed first: half a folder must not look like an interrupted run.
                shutil.rmtree(path.rename(path.with_name(f"{_REMOVED}{path.name}")))


def trainings(paths: Paths) -> Store:
    """Finished trainings, each in the work folder that it was trained in."""
    return Store(paths.work, f"{paths.scale}-", PUBLISHED, paths.is_experiment)


def phases(paths: Paths) -> Store:
    """Work folders of the warm start's finished phases."""
    return Store(paths.work, f"{paths.scale}-pretrain-", WEIGHTS, paths.is_experiment)


def measurements(paths: Paths, stage: str) -> Store:
    """What `stage` measures of single trained runs."""
    return Store(paths.measured / f"{paths.scale}-{stage}", keeps_all=paths.is_experiment)


def adopt_all(paths: Paths) -> None:
    """`Store.adopt` of each stage that goes through the runs: cheap where there is nothing new."""
    trainings(paths).adopt(paths.train)
    for out in (paths.evaluate, paths.cam, paths.search):
        measurements(paths, out.name).adopt(out)


def is_locked(work: Path) -> bool:
    """Whether a process, of this or of another machine on a shared disk, trains in `work`."""
    return any(_is_held(path) for path in work.glob("lock*"))


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _index(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / INDEX).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _link(source: Path, target: Path) -> None:
    """A folder with links to the files of `source`, or copies where the file system has none."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(os.path.realpath(file), copy)
        except OSError:
            shutil.copy2(file, copy)

    shutil.copytree(source, target, copy_function=link)
