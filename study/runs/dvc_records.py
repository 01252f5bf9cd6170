"""What DVC has on record: dvc.lock, and which trained runs its cache can bring back.

DVC keeps what a stage made under a hash of all it was made from: the last time in dvc.lock, earlier
times in the run cache (https://dvc.org/doc/user-guide/project-structure/internal-files). Its own
look-up needs the stage's dependencies on disk; here it is asked about runs that are only planned.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opmask.errors import UserError
from study.spec.paths import PROVENANCE

if TYPE_CHECKING:
    from study.runs.work import Planned

Entry = Mapping[str, Any]  # a stage as dvc.lock has it: cmd, deps, outs


def last_run() -> dict[str, Entry]:
    """What dvc.lock says of each stage, by its name."""
    lock = Path("dvc.lock")
    return (_load(lock.read_text()).get("stages") or {}) if lock.is_file() else {}


def _load(text: str) -> dict[str, Any]:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def md5(path: Path) -> str | None:
    """A file's checksum as DVC has it, None if there is no such file."""
    return hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else None


def recorded(entry: Entry, kind: str) -> dict[str, str | None]:
    """Checksums by path of an entry's `kind`, "deps" or "outs"."""
    return {str(one["path"]): one.get("md5") for one in entry.get(kind, [])}


def mend_run_cache(cache: Path = Path(".dvc", "cache")) -> None:
    """Remove empty folders from DVC's run cache, on which `dvc repro` fails with a TypeError.

    DVC 3.67 leaves one when it is killed between making it and writing the entry. For a stage that
    every `dvc repro` runs first, while DVC keeps other processes off the repository.
    """
    for folder in cache.glob("runs/??/*"):
        with suppress(OSError):  # it is not empty, or no folder
            folder.rmdir()


class DvcCache:
    """The cache of the DVC repository that the working directory is in; empty outside of one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def here(cls) -> "DvcCache":
        from dvc.config import Config  # here: DVC takes half a second to import

        config = Config.from_cwd()
        if not config.dvc_dir:
            return cls(None)
        return cls(Path(config["cache"].get("dir") or Path(config.dvc_dir, "cache")))

    def has_run(self, job: "Planned") -> bool:
        """Whether `job`, trained with the present settings, data and code, can be restored.

        It is recognised by its provenance.json, which names the work folder and with it everything
        that determines the run, code included (`study.runs.folders`).
        """
        about = str(job.out / PROVENANCE)
        for entry in self._trainings.get(f"python -m pipeline.train {job.key}", []):
            outs = recorded(entry, "outs")
            whole = all(self._object(digest).is_file() for digest in outs.values())
            if whole and about in outs and self._work(outs[about]) == job.work.name:
                return True
        return False

    @cached_property
    def _trainings(self) -> dict[str, list[Entry]]:
        """Entries of training stages by command."""
        found: dict[str, list[Entry]] = {}
        for entry in (*last_run().values(), *self._run_cache()):
            found.setdefault(entry["cmd"], []).append(entry)
        return found

    def _run_cache(self) -> Iterator[Entry]:
        files = sorted(self.folder.glob("runs/??/*/*")) if self.folder else []
        for path in files:
            text = path.read_text() if path.is_file() else ""
            if text.startswith("cmd: python -m pipeline.train "):  # the others are not needed
                yield _load(text)

    def _work(self, digest: str | None) -> Any:
        """What a provenance.json says that its work folder was called: only to be compared."""
        try:
            return json.loads(self._object(digest).read_text())["work"]
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or of something else
            return None

    def _object(self, digest: str | None) -> Path:
        if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(digest)):
            raise UserError(f"{digest!r} in dvc.lock or DVC's run cache is no checksum")
        digest = str(digest)
        return Path(self.folder or "", "files", "md5", digest[:2], digest[2:])
