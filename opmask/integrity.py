"""Files that survive a power cut whole, and checksums that tell when one did not.

Writing is the usual sequence: a partial file, fsync, rename, fsync of the folder. Checksums are in
the format of coreutils: `sha256sum -c SHA256SUMS` in a published folder, or
`sha256sum -c FILE.sha256` beside a single file, checks what this module checks.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from opmask.errors import UserError

SUMS = "SHA256SUMS"
_LINE = "{digest}  {name}\n"


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` at the end of the block, whole or not at all.

    If the block raises, nothing of it is left.
    """
    with _partial_file(path) as (partial, file):
        yield file
        _finish(file)
        os.replace(partial, path)
    sync_folder(path.parent)


@contextmanager
def _partial_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    partial = path.with_name(f".{path.name}.partial")  # nothing looks for such a name
    try:
        with partial.open("wb") as file:
            yield partial, file
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def write_durably(path: Path, content: str | bytes) -> None:
    """Write `content`, text as UTF-8, to `path` whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` survive a power cut, where the system can (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def empty_folder(folder: Path) -> Path:
    """`folder`, new and empty, in place of whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def seal(folder: Path) -> None:
    """Write SHA256SUMS of all files in `folder`, those in folders below it included."""
    lines = [
        _LINE.format(digest=sha256(path), name=path.relative_to(folder).as_posix())
        for path in _files(folder)
        if path != folder / SUMS
    ]
    write_durably(folder / SUMS, "".join(lines))


def publish(partial: Path, out: Path) -> None:
    """Seal `partial`, unless it is; it then takes the place of `out`, all on the disk before."""
    if not is_sealed(partial):
        seal(partial)
    for path in _files(partial):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for path in (partial, *partial.rglob("*")):
        if path.is_dir():
            sync_folder(path)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)
    sync_folder(out.parent)


def is_sealed(folder: Path) -> bool:
    """Whether `folder` has checksums at all: own files and those of other programs have none."""
    return (folder / SUMS).is_file()


def require_whole(folder: Path, names: Iterable[str] | None = None, *, remedy: str) -> None:
    """Check files of a published `folder` (default: all) against its SHA256SUMS.

    A folder below `folder` stands for all that SHA256SUMS lists in it.

    Raises:
        UserError: a file is damaged, missing or not listed, or SHA256SUMS itself is; says `remedy`.
    """
    sums = read_sums(folder, remedy)
    wanted = list(sums) if names is None else [n for name in names for n in _below(sums, name)]
    for name in wanted:
        path = folder / name
        if name not in sums:
            raise UserError(f"{path}: {folder / SUMS} does not list it; {remedy}")
        if not path.is_file():
            raise UserError(f"{path}: missing, {folder / SUMS} lists it; {remedy}")
        if sha256(path) != sums[name]:
            raise UserError(f"{path}: damaged, its SHA-256 is not that in {SUMS}; {remedy}")


def verified(path: Path) -> Path:
    """A file, or a folder of files, as it is, checked if it lies in a sealed folder or below one.

    Raises:
        UserError: as `require_whole`.
    """
    sealed = next((folder for folder in list(path.parents)[:2] if is_sealed(folder)), None)
    if sealed:
        remedy = f"repeat the stage that makes {sealed} (dvc repro), or dvc checkout {sealed}"
        require_whole(sealed, [path.relative_to(sealed).as_posix()], remedy=remedy)
    return path


def _below(sums: dict[str, str], name: str) -> list[str]:
    return [n for n in sums if n.startswith(f"{name}/")] or [name]


def read_sums(folder: Path, remedy: str) -> dict[str, str]:
    """Digests by file name, of `folder`'s SHA256SUMS. Raises UserError if it is none."""
    path = folder / SUMS
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing, so {folder} cannot be checked; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); {remedy}") from error


def _parse(text: str) -> dict[str, str]:
    """Names are of files within the folder, whatever the text says: never of any outside it."""
    found = {}
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{line[:80]!r} is no checksum")
        inside = PurePosixPath(name)
        if not name or inside.is_absolute() or ".." in inside.parts or "\0" in name:
            raise ValueError(f"{name!r} is no file of this folder")
        found[name] = digest
    if not text.endswith("\n"):
        raise ValueError("it ends within a line")
    return found


def sum_file(path: Path) -> Path:
    """Where the checksum of the single file `path` lies."""
    return path.with_name(f"{path.name}.sha256")


@contextmanager
def summed_file(path: Path) -> Iterator[BinaryIO]:
    """`durable_file`, with its checksum beside it.

    The checksum comes first: whenever `path` is there, it can be checked.
    """
    with _partial_file(path) as (partial, file):
        yield file
        _finish(file)
        write_durably(sum_file(path), _LINE.format(digest=sha256(partial), name=path.name))
        os.replace(partial, path)
    sync_folder(path.parent)


def copy_summed(source: Path, target: Path) -> None:
    """Copy a file of `summed_file`; the checksum stays the original's, whatever was copied."""
    with _partial_file(target) as (partial, file):
        with source.open("rb") as original:
            shutil.copyfileobj(original, file)
        _finish(file)
        text = sum_file(source).read_text().replace(source.name, target.name)
        write_durably(sum_file(target), text)
        os.replace(partial, target)
    sync_folder(target.parent)


def damage(path: Path) -> str | None:
    """What is wrong with a file of `summed_file`, None if it is whole."""
    try:
        expected = _parse(sum_file(path).read_text(encoding="utf-8")).get(path.name)
        found = sha256(path)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"its checksum cannot be read ({error})"
    return None if found == expected else "its SHA-256 is not that of what was written"


def remove_summed(path: Path) -> None:
    """Remove a file of `summed_file`, then its checksum; neither need be there."""
    path.unlink(missing_ok=True)
    sum_file(path).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file in hexadecimal; read once as long as it does not change."""
    status = path.stat()
    return _sha256(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, *_stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
