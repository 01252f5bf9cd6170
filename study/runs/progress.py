"""How far each planned training is, from what trainings leave in work/ and runs/.

Nothing here writes, and nothing needs torch: it may be looked at as often as one likes while a
training goes on.
"""

import heapq
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.runs.folders import deepened_file, phase_folder
from study.runs.log import Log, last_log
from study.runs.store import is_locked
from study.runs.work import Planned, as_planned
from study.spec.code import code_of
from study.spec.paths import PROVENANCE, PUBLISHED, WEIGHTS, Paths
from study.spec.run import Run, all_runs, load_specification, shared_specifications, specification

STATES = {
    "published": "done: in runs/, with the present settings, data and code",
    "trained": "done, in work/; dvc repro publishes it",
    "training": "a process trains it now",
    "interrupted": "stopped, by Ctrl-C, a failure or a power cut; dvc repro resumes it",
    "stale": "runs/ has it with other settings, data or code; dvc repro replaces it, from DVC's "
    "cache if it is there",
    "waiting": "nothing is done yet",
}
OVER = ("published", "trained")
WARM_START = "pipeline.pretrain"  # what a warm start rests on


@dataclass(frozen=True)
class Progress:
    """One run, or one phase of the warm start: a state of STATES and iterations done of `total`.

    kind: METHOD-BACKBONE, or pretrain-BACKBONE-PHASE, whose pace it goes at. log: of this very
    training, or in state "stale" of the one before.
    """

    name: str
    kind: str
    state: str
    done: int
    total: int
    log: Log = Log()

    @property
    def left(self) -> int:
        """Iterations still to be done."""
        return self.total - self.done


def progress(params: Mapping[str, Any]) -> list[Progress]:
    """Every phase of the warm start, then every planned run, in the order of params.yaml."""
    backbones = params["scales"][params["scale"]]["warm_start"]
    phases = [phase for backbone in backbones for phase in warm_start_progress(backbone, params)]
    return [*phases, *(run_progress(run, params) for run in all_runs(params))]


def run_progress(run: Run, params: Mapping[str, Any]) -> Progress:
    """How far `run` is with the settings that params.yaml has now."""
    total, out = specification(run, params)["max_iter"], Paths.of(params).train / run.key
    state = "stale" if (out / PROVENANCE).is_file() else "waiting"
    untouched = Progress(run.key, run.kind, state, 0, total, last_log(out))
    job = job_now(run, params)
    if job is None:
        return untouched
    if job.is_published():
        return replace(untouched, state="published", done=total)
    if (job.work / PUBLISHED).is_dir():
        return replace(untouched, state="trained", done=total, log=last_log(job.work / PUBLISHED))
    return _working(untouched, job.work)


def job_now(run: Run, params: Mapping[str, Any]) -> Planned | None:
    """`as_planned`; None while its data set or initial weights are missing or were made with other
    settings: what it will start from is not known yet."""
    needs_weights = run.backbone in params["scales"][params["scale"]]["warm_start"]
    if not _has_data(params) or (needs_weights and not _has_warm_start(run.backbone, params)):
        return None
    return as_planned(run, params)


def _is_current(name: str, params: Mapping[str, Any]) -> bool:
    """Whether what is on disk was planned with the present settings of stage `name`."""
    path = Paths.of(params).planned(name)
    return path.is_file() and load_specification(path) == shared_specifications(params)[name]


def _has_data(params: Mapping[str, Any]) -> bool:
    return _is_current("data", params) and Paths.of(params).manifest.is_file()


def _has_warm_start(backbone: str, params: Mapping[str, Any]) -> bool:
    """Whether a backbone's initial weights are there, of the present settings and code."""
    paths = Paths.of(params)
    about = paths.pretrain / backbone / PROVENANCE
    return (
        paths.initial(backbone).is_file()
        and _is_current("pretrain", params)
        and about.is_file()
        and json.loads(about.read_text()).get("code") == code_of(WARM_START)
    )


def warm_start_progress(backbone: str, params: Mapping[str, Any]) -> list[Progress]:
    """Every phase of a backbone's warm start."""
    scale = params["scales"][params["scale"]]
    lengths = [phase_length(one, scale) for one in scale["warm_start"][backbone]["phases"]]
    state = "stale" if Paths.of(params).initial(backbone).is_file() else "waiting"
    is_done, found = _has_warm_start(backbone, params), []
    for n, (total, work) in enumerate(zip(lengths, phase_folders(backbone, params), strict=True)):
        kind = f"pretrain-{backbone}-{n + 1}"
        one = Progress(f"pretrain {backbone} {n + 1}/{len(lengths)}", kind, state, 0, total)
        if is_done:
            found.append(replace(one, state="published", done=total, log=last_log(work)))
        elif (work / WEIGHTS).is_file() and not is_locked(work):
            found.append(replace(one, state="trained", done=total, log=last_log(work)))
        else:
            found.append(_working(one, work))
    return found


def phase_folders(backbone: str, params: Mapping[str, Any]) -> list[Path]:
    """Where stage `pretrain` trains each phase; "none" where that is not known yet."""
    recipe = params["scales"][params["scale"]]["warm_start"][backbone]
    none = Paths.of(params).work / "none"
    if not _has_data(params):
        return [none] * len(recipe["phases"])
    weights, works = deepened_file(backbone, params) if "deepen" in recipe else none, []
    for number in range(1, len(recipe["phases"]) + 1):
        works.append(phase_folder(WARM_START, backbone, number, weights, params))
        weights = works[-1] / WEIGHTS
    return works


def phase_length(phase: Mapping[str, Any], scale: Mapping[str, Any]) -> int:
    """Length of a phase of the warm start; 40000 is detectron2's default."""
    return int({**scale["config"], **phase}.get("SOLVER.MAX_ITER", 40000))


def _working(untouched: Progress, work: Path) -> Progress:
    """A training that is not finished, from its work folder; `untouched` if there is none."""
    log = last_log(work)
    if is_locked(work):
        return replace(untouched, state="training", done=log.done, log=log)
    if any(work.glob("lock*")):
        return replace(untouched, state="interrupted", done=resume_point(work), log=log)
    return untouched


def resume_point(work: Path) -> int:
    """Iterations that the last checkpoint in `work` has behind it; 0 without one."""
    names = [re.fullmatch(r"model_(\d+)\.pth", path.name) for path in work.glob("model_*.pth")]
    return max((int(number[1]) + 1 for number in names if number), default=0)


def abandoned(params: Mapping[str, Any]) -> list[Path]:
    """Work folders of planned runs that belong to other settings, data or code than the present."""
    paths = Paths.of(params)
    jobs = [job for run in all_runs(params) if (job := job_now(run, params))]
    return [
        path
        for job in jobs
        for path in sorted(paths.work.glob(f"{paths.scale}-{job.key}-{'?' * 12}"))
        if path.is_dir() and path.name != job.work.name
    ]


def seconds_left(found: Sequence[Progress]) -> list[float]:
    """Of each training, by what trainings of its kind last logged; NaN if none has, 0 if over."""
    logged: dict[str, list[float]] = {}
    for one in found:
        if not math.isnan(one.log.seconds):
            logged.setdefault(one.kind, []).append(one.log.seconds)
    paces = {kind: statistics.median(values) for kind, values in logged.items()}
    return [one.left * paces.get(one.kind, math.nan) if one.left else 0.0 for one in found]


def makespan(durations: Sequence[float], places: int) -> float:
    """Wall time of runs that start longest first, each as soon as one of `places` is free."""
    free = [0.0] * places
    for duration in sorted(durations, reverse=True):
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
