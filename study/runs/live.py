"""Trainings that are going on, for `dvc exp show`, `dvc plots show` and DVC's extension of VS Code.

What DVCLive writes for one training of one process, folder `live/` has for all that run side by
side, as long as they do: metrics, a plot, and the dvc.yaml by which DVC finds both.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from study.runs.log import Log, last_log
from study.spec.paths import LIVE, LOG, LOSS_CURVES, METRICS
from study.spec.run import Run

_CURVES = {"template": "losses", "x": "iteration", "y": {LOSS_CURVES: "total_loss"}}
DVC = {"metrics": [METRICS], "plots": [{"Training loss now": _CURVES}]}
_COLUMNS = "run,method,backbone,supervised,iteration,total_loss"


@contextmanager
def shown_live(work: Path) -> Iterator[Callable[[Sequence[str]], None]]:
    """A function to call now and then with the keys of the runs that train in folders of `work`.

    Of each run `live/metrics.json` has iterations done and the sum of its losses when it last
    logged them, `live/losses.csv` a row whenever it has. Both are gone when this ends. A disk that
    is full is no matter of theirs.
    """
    rows: dict[tuple[str, int], str] = {}
    started = time.time()

    def show(running: Sequence[str]) -> None:
        logs = {key: log for key in running if (log := _log(work, key, started)).losses}
        new = {(key, log.done): _row(key, log) for key, log in logs.items()}
        if new.keys() <= rows.keys():
            return
        rows.update(new)
        values = {
            key: {"iteration": log.done, "total_loss": log.losses.get("total_loss")}
            for key, log in logs.items()
        }
        with suppress(OSError):
            LIVE.mkdir(exist_ok=True)
            _write(METRICS, json.dumps(values, indent=1))
            _write(LOSS_CURVES, "\n".join([_COLUMNS, *rows.values(), ""]))
            _write("dvc.yaml", yaml.safe_dump(DVC))  # last: it names the other two

    shutil.rmtree(LIVE, ignore_errors=True)  # of a process that was killed
    try:
        yield show
    finally:
        shutil.rmtree(LIVE, ignore_errors=True)


def _write(name: str, text: str) -> None:
    """Whole, as others read it at any time."""
    partial = LIVE / f"{name}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(LIVE / name)


def _log(work: Path, key: str, since: float) -> Log:
    """Of the run's folder in which something was logged since: others are of other settings."""
    for path in work.glob(f"*-{key}-{'?' * 12}/{LOG}"):
        with suppress(OSError):  # the run has just ended
            if path.stat().st_mtime >= since:
                return last_log(path.parent)
    return Log()


def _row(key: str, log: Log) -> str:
    name, _, seed = key.rpartition("-")
    run = Run.from_name(name, seed=int(seed))
    about = (key, run.method, run.backbone, run.supervised, log.done, log.losses.get("total_loss"))
    return ",".join(map(str, about))
