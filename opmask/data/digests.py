"""One digest over the image files of a set, which re-reads only files that have changed.

Like git's index, a small file remembers of each image its size, its time of modification and the
digest of its contents. It lies outside what DVC tracks; without it everything is read again.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from opmask.errors import UserError
from opmask.integrity import write_durably

Mode = Literal["contents", "stat"]
Entry = tuple[int, int, str]  # size in bytes, time of modification in ns, sha256 of the contents
# ns: a file as new as this may change again without a new time (FAT counts in 2 s)
_RACY = 2 * 10**9


def digest_images(folder: Path, names: Sequence[str], mode: Mode, index: Path | None = None) -> str:
    """sha256 over the sorted file names, each with what tells its image's state.

    mode: `contents` takes the digest of each file, `stat` its size and time of modification, for
        sets too big to be read.
    index: where digests are remembered from one call to the next.

    Raises UserError if a file cannot be read.
    """
    names = sorted(names)
    values = _contents(folder, names, index) if mode == "contents" else _stats(folder, names)
    digest = hashlib.sha256()
    for name, value in zip(names, values, strict=True):
        digest.update(f"{name}\0{value}\n".encode())
    return digest.hexdigest()


def _stats(folder: Path, names: Sequence[str]) -> list[str]:
    found = (_stat(folder / name) for name in names)
    return [f"{size} {modified}" for size, modified in found]


def _contents(folder: Path, names: Sequence[str], index: Path | None) -> list[str]:
    started = time.time_ns()
    known = _load(index, folder) if index else {}

    def entry(name: str) -> Entry:
        state, old = _stat(folder / name), known.get(name)
        known_digest = old[2] if old is not None and tuple(old[:2]) == state else None
        return (*state, known_digest or _sha256(folder / name))

    with ThreadPoolExecutor(8) as pool:  # hashing frees the interpreter's lock
        found = pool.map(entry, names)
        bar = tqdm(found, f"{folder.name}: digest", len(names), unit="img", disable=None)
        entries = dict(zip(names, bar, strict=True))
    if index:
        settled = {name: e for name, e in entries.items() if e[1] < started - _RACY}
        _save(settled, index, folder)
    return [entries[name][2] for name in names]


def _stat(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return state.st_size, state.st_mtime_ns


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _load(index: Path, folder: Path) -> dict[str, Entry]:
    """What is remembered of `folder`; nothing if the index is missing, damaged or another's."""
    try:
        checksum, _, body = index.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        return {}
    content = json.loads(body)
    return content["files"] if content["folder"] == str(folder.absolute()) else {}


def _save(entries: dict[str, Entry], index: Path, folder: Path) -> None:
    body = json.dumps({"folder": str(folder.absolute()), "files": entries}).encode()
    write_durably(index, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
