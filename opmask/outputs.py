"""A folder that a command writes to again and again, in which it replaces only what it wrote.

A small record there has the digest of every file that was ever written. A file that the record
lacks, or that was changed since, is somebody's own: it is neither overwritten nor removed.
"""

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from opmask.errors import UserError

RECORD = ".opmask-predict"
HEADER = "# Files that python -m opmask.predict wrote here, with SHA-256: it replaces no other.\n"
_REMEDY = "move it away, or give another --out"


class Outputs:
    """The files of `folder`, which need not exist yet, by their names below it, with `/`."""

    def __init__(self, folder: Path):
        """Raises UserError if `folder` cannot be one, or its record is none."""
        self.folder = Path(os.path.realpath(os.path.expanduser(folder)))
        self._inputs: set[tuple[int, int]] = set()
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{folder}: is no folder; give another --out")
        self._written = self._read()
        self._now: set[str] = set()  # written by this very command

    def __contains__(self, path: object) -> bool:
        """Whether `path` has the place of a file that was written here, also if changed since."""
        return isinstance(path, Path) and self._name(path) in self._written

    @property
    def count(self) -> int:
        """Files written by this object."""
        return len(self._now)

    def protect(self, inputs: Iterable[Path]) -> None:
        """Let none of these files be replaced, whatever the record says."""
        self._inputs = {_identity(path) for path in inputs}

    def check(self, names: Iterable[str], folders: Iterable[str] = ()) -> None:
        """Raises UserError unless all files `names` may be written, and files into `folders`."""
        for name in [*names, *(f"{folder}/any" for folder in folders)]:
            self._check(name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            UserError: it may not be replaced, or the disk is full or cannot be written to.
        """
        self._check(name)
        digest, path = hashlib.sha256(content).hexdigest(), self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # first: if it is stopped in between, the file is still known as ours
            self._note(name, digest)
            _replace(path, content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        self._now.add(name)

    def remove_others(self, folder: str, names: Collection[str], like: re.Pattern) -> None:
        """Remove what earlier commands wrote into `folder`, but for `names`, if it is unchanged.

        like: what the whole names of such files, without the folder, look like.
        """
        for path in sorted((self.folder / folder).glob("*")):
            name = self._name(path)
            old = name in self._written and name not in self._now and name not in names
            if old and like.fullmatch(path.name) and self._is_own(path, name):
                path.unlink()

    def _name(self, path: Path) -> str:
        """Relative to the folder, where the file itself may be a link but no folder above it."""
        place = Path(os.path.realpath(path.parent), path.name)
        return place.relative_to(self.folder).as_posix() if self.folder in place.parents else ""

    def _check(self, name: str) -> None:
        parts = PurePosixPath(name)
        for above in reversed(parts.parents[:-1]):
            path = self.folder / above
            if path.is_symlink():
                raise UserError(f"{path}: is a link, which is not followed; {_REMEDY}")
            if os.path.lexists(path) and not path.is_dir():
                raise UserError(f"{path}: has to be a folder; {_REMEDY}")
        path = self.folder / name
        if not os.path.lexists(path):
            return
        if _identity(path) in self._inputs:
            raise UserError(f"{path}: is one of the images given; give another --out")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UserError(f"{path}: is no plain file; {_REMEDY}")
        if name not in self._written:
            raise UserError(f"{path}: exists, and no earlier prediction wrote it; {_REMEDY}")
        if not self._is_own(path, name):
            raise UserError(f"{path}: was changed since it was written; {_REMEDY}")

    def _is_own(self, path: Path, name: str) -> bool:
        if not stat.S_ISREG(path.lstat().st_mode) or _identity(path) in self._inputs:
            return False
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() in self._written[name]
        except OSError:  # not to be read: not known to be ours
            return False

    def _read(self) -> dict[str, set[str]]:
        """Digests by name."""
        path = self.folder / RECORD
        written: dict[str, set[str]] = {}
        if not os.path.lexists(path):
            return written
        plain = stat.S_ISREG(path.lstat().st_mode)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(True) if plain else []
        if not lines or lines[0] != HEADER:
            raise UserError(f"{path}: is not the record of earlier predictions; {_REMEDY}")
        for line in lines[1:]:
            try:
                digest, name = json.loads(line)
                written.setdefault(name, set()).add(digest)
            except (ValueError, TypeError):  # half a line, of a command that was killed
                continue
        return written

    def _note(self, name: str, digest: str) -> None:
        if digest in self._written.setdefault(name, set()):
            return
        path = self.folder / RECORD
        if not path.exists():
            _replace(path, HEADER.encode())
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([digest, name]) + "\n")
        self._written[name].add(digest)


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names and links of a file."""
    try:
        found = path.stat()
    except OSError:  # a link to nowhere
        return (-1, -1)
    return found.st_dev, found.st_ino


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".partial-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
