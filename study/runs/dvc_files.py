"""Files of DVC that a kill can leave in a state in which DVC itself fails without saying why."""

import time
from contextlib import suppress
from pathlib import Path

import yaml

from opmask.errors import UserError

REMEDY = "git checkout dvc.lock, then dvc repro: finished runs are kept in work/ and in DVC's cache"
_WAIT = 3  # seconds at most in which DVC, which may be writing the file now, is done with it


def require_lock(path: Path = Path("dvc.lock")) -> None:
    """Raises UserError, with the remedy, if dvc.lock is no whole YAML; it need not be there."""
    started = time.monotonic()
    while trouble := _trouble(path):
        if "conflicts" in trouble or time.monotonic() - started > _WAIT:
            raise UserError(f"{path} {trouble}: {REMEDY}")
        time.sleep(0.2)


def _trouble(path: Path) -> str | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if any(line.startswith(("<<<<<<<", ">>>>>>>")) for line in text.splitlines()):
        return "has conflicts"
    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return "is not whole"
    return None if isinstance(content, dict) else "is empty"


def mend_run_cache(cache: Path = Path(".dvc", "cache")) -> None:
    """Remove empty folders from DVC's run cache, on which `dvc repro` fails with a TypeError.

    DVC 3.67 leaves one when it is killed between making it and writing the entry. For a stage that
    every `dvc repro` runs first, while DVC keeps other processes off the repository.
    """
    for folder in cache.glob("runs/??/*"):
        with suppress(OSError):  # it is not empty, or no folder
            folder.rmdir()
