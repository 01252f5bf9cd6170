"""What dvc.lock records: of each stage the checksums of what it read and wrote when it last ran."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

Entry = Mapping[str, Any]  # a stage as dvc.lock has it: cmd, deps, outs


def last_run() -> dict[str, Entry]:
    """What dvc.lock says of each stage, by its name."""
    lock = Path("dvc.lock")
    return (load(lock.read_text()).get("stages") or {}) if lock.is_file() else {}


def load(text: str) -> dict[str, Any]:
    """A file of DVC's, in YAML."""
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
