"""Clears work folders once DVC has recorded what came of them, and not before.

DVC removes a stage's outputs before it runs it and writes dvc.lock after it: a power cut in between
leaves nothing but the work folder. So the stages that come later clear it. A folder is recognised
by what it holds; no name is ever read from a result, which may come from anywhere.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opmask.integrity import SUMS
from study.runs.dvc_lock import Entry, last_run, md5, recorded
from study.runs.folders import PUBLISHED
from study.spec.run import all_runs

WORK = Path("work")
_REMOVED = ".removed-"
_HASH = "[0-9a-f]{12}"


def clear_recorded(params: Mapping[str, Any]) -> None:
    """Remove work folders of the scale's runs and warm start that DVC has recorded for good.

    Of a run: that it was evaluated, from the very weights in the work folder. Of the warm start:
    that it was made from what is there now.
    """
    if not any(WORK.glob(f"*{params['scale']}-*")):
        return
    entries = last_run()
    finished = [*_runs(params, entries), *_warm_start(params["scale"], entries.get("pretrain"))]
    _empty_bin()
    for path in finished:  # renamed first: half a folder must not look like an interrupted run
        path.rename(path.with_name(f"{_REMOVED}{path.name}"))
    _empty_bin()


def _empty_bin() -> None:
    for path in WORK.glob(f"{_REMOVED}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def work_of(trained: Path, label: str) -> Path | None:
    """The folder `work/<label>-<hash>` that holds the very run published in `trained`, if any."""
    published = md5(trained / SUMS)
    found = [path for path in _folders(label) if md5(path / PUBLISHED / SUMS) == published]
    return found[0] if published and found else None


def _folders(label: str) -> list[Path]:
    pattern = re.compile(f"{re.escape(label)}-{_HASH}")
    return sorted(p for p in WORK.glob("*") if pattern.fullmatch(p.name) and not p.is_symlink())


def _runs(params: Mapping[str, Any], entries: Mapping[str, Entry]) -> Iterator[Path]:
    for run in all_runs(params):
        evaluated = recorded(entries.get(f"evaluate@{run.key}", {}), "deps")
        sums = evaluated.get(f"runs/{params['scale']}/train/{run.key}/{SUMS}")
        for folder in _folders(f"{params['scale']}-{run.key}"):
            if sums and md5(folder / PUBLISHED / SUMS) == sums:
                yield folder


def _warm_start(scale: str, entry: Entry | None) -> Iterator[Path]:
    out = f"runs/{scale}/pretrain"
    if entry is None or out not in recorded(entry, "outs") or not Path(out, "weights").is_dir():
        return
    if all(md5(Path(path)) == digest for path, digest in recorded(entry, "deps").items()):
        pattern = re.compile(
            f"{re.escape(scale)}-(pretrain-.+-{_HASH}|.+-deepened\\.pth(\\.sha256)?)"
        )
        yield from (path for path in WORK.glob("*") if pattern.fullmatch(path.name))
