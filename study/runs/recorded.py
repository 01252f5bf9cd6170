"""Clears work folders once DVC has recorded what came of them, and not before.

DVC removes a stage's outputs before it runs it and writes dvc.lock after it: a power cut in between
leaves nothing but the work folder. So the stages that come later clear it. A folder is recognised
by what it holds; no name is ever read from a result, which may come from anywhere.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opmask.integrity import SUMS
from study.runs.dvc_records import Entry, last_run, md5, recorded
from study.spec.paths import PUBLISHED, Paths
from study.spec.run import all_runs

_REMOVED = ".removed-"
_HASH = "[0-9a-f]{12}"


def clear_recorded(params: Mapping[str, Any]) -> None:
    """Remove work folders of the scale's runs and warm start that DVC has recorded for good.

    Of a run: that it was evaluated, from the very weights in the work folder. Of the warm start:
    that it was made from what is there now.
    """
    paths = Paths.of(params)
    if not any(paths.work.glob(f"*{paths.scale}-*")):
        return
    entries = last_run()
    keys = [run.key for run in all_runs(params)]
    finished = [*_runs(keys, paths, entries), *_warm_start(paths, entries.get("pretrain"))]
    _empty_bin(paths)
    for path in finished:  # renamed first: half a folder must not look like an interrupted run
        path.rename(path.with_name(f"{_REMOVED}{path.name}"))
    _empty_bin(paths)


def _empty_bin(paths: Paths) -> None:
    for path in paths.work.glob(f"{_REMOVED}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def work_of(key: str, paths: Paths) -> Path | None:
    """The work folder that holds the very run that is published as `key`, if any."""
    return next(_holding(key, md5(paths.train / key / SUMS), paths), None)


def _holding(key: str, sums: str | None, paths: Paths) -> Iterator[Path]:
    """Work folders of run `key` whose finished run has the checksums of MD5 `sums`."""
    for path in _matching(f"{re.escape(key)}-{_HASH}", paths):
        if sums and not path.is_symlink() and md5(path / PUBLISHED / SUMS) == sums:
            yield path


def _matching(pattern: str, paths: Paths) -> list[Path]:
    whole = re.compile(f"{re.escape(paths.scale)}-{pattern}")
    return sorted(path for path in paths.work.glob("*") if whole.fullmatch(path.name))


def _runs(keys: Sequence[str], paths: Paths, entries: Mapping[str, Entry]) -> Iterator[Path]:
    for key in keys:
        evaluated = recorded(entries.get(f"evaluate@{key}", {}), "deps")
        yield from _holding(key, evaluated.get((paths.train / key / SUMS).as_posix()), paths)


def _warm_start(paths: Paths, entry: Entry | None) -> Iterator[Path]:
    if entry is None or paths.pretrain.as_posix() not in recorded(entry, "outs"):
        return
    if not paths.weights.is_dir():
        return
    if all(md5(Path(path)) == digest for path, digest in recorded(entry, "deps").items()):
        yield from _matching(f"(pretrain-.+-{_HASH}|.+-deepened\\.pth(\\.sha256)?)", paths)
