"""How far each planned run is, from what trainings leave in work/ and runs/.

Nothing here writes, and nothing needs torch: it may be looked at as often as one likes while a
training goes on.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from study.runs.folders import deepened_file, phase_folder
from study.runs.log import Log, last_log
from study.runs.work import Planned, as_planned
from study.spec.code import code_of
from study.spec.paths import PROVENANCE, PUBLISHED, WEIGHTS, Paths
from study.spec.run import Run, all_runs, load_specification, shared_specifications, specification

STATES = {
    "published": "done: in runs/, with the present settings, data and code",
    "trained ahead": "done, waiting in work/ for its DVC stage to publish it",
    "finishing": "its last iteration is done; detects or publishes, or was stopped there",
    "training": "a process trains it now",
    "interrupted": "stopped, by Ctrl-C, a failure or a power cut; dvc repro resumes it",
    "stale": "runs/ has it with other settings, data or code; dvc repro replaces it",
    "waiting": "nothing is done yet",
}
WARM_START = "pipeline.pretrain"  # what a warm start rests on


@dataclass(frozen=True)
class Progress:
    """One run, or one phase of the warm start: a state of STATES and iterations done of `total`.

    kind: METHOD-BACKBONE or pretrain-BACKBONE, whose pace it goes at.
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

    @property
    def eta(self) -> float:
        """Seconds until the last iteration, if it trains now; else NaN."""
        return self.left * self.log.seconds if self.state == "training" else math.nan


def progress(params: Mapping[str, Any]) -> list[Progress]:
    """Every phase of the warm start, then every planned run, in the order of params.yaml."""
    backbones = params["scales"][params["scale"]]["warm_start"]
    phases = [phase for backbone in backbones for phase in warm_start_progress(backbone, params)]
    return [*phases, *(run_progress(run, params) for run in all_runs(params))]


def run_progress(run: Run, params: Mapping[str, Any]) -> Progress:
    """How far `run` is with the settings that params.yaml has now."""
    published = (Paths.of(params).train / run.key / PROVENANCE).is_file()
    total = specification(run, params)["max_iter"]
    untouched = Progress(run.key, run.kind, "stale" if published else "waiting", 0, total)
    job = job_now(run, params)
    if job is None:
        return untouched
    if job.is_published():
        return replace(untouched, state="published", done=total, log=last_log(job.out))
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


def warm_start_kind(backbone: str) -> str:
    """`Progress.kind` of every phase of a warm start."""
    return f"pretrain-{backbone}"


def warm_start_progress(backbone: str, params: Mapping[str, Any]) -> list[Progress]:
    """Every phase of a backbone's warm start."""
    scale = params["scales"][params["scale"]]
    phases, kind = scale["warm_start"][backbone]["phases"], warm_start_kind(backbone)
    state = "stale" if Paths.of(params).initial(backbone).is_file() else "waiting"
    found = [
        Progress(
            f"pretrain {backbone} {n}/{len(phases)}", kind, state, 0, phase_length(phase, scale)
        )
        for n, phase in enumerate(phases, start=1)
    ]
    if _has_warm_start(backbone, params):
        return [replace(one, state="published", done=one.total) for one in found]
    works = phase_folders(backbone, params)
    found = [_working(one, work) for one, work in zip(found, works, strict=True)]
    over = "trained ahead"  # where a run is finishing: a phase detects and publishes nothing
    return [replace(one, state=over) if one.state == "finishing" else one for one in found]


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
    """A run that is not published, from its work folder; `untouched` if there is none."""
    found, total = replace(untouched, log=last_log(work)), untouched.total
    if is_training(work):
        return replace(found, state="training", done=found.log.done)
    if (work / PUBLISHED).is_dir():
        return replace(found, state="trained ahead", done=total, log=last_log(work / PUBLISHED))
    if (work / WEIGHTS).is_file():
        return replace(found, state="finishing", done=total)
    if any(work.glob("lock*")):  # a published run leaves a folder without one behind
        return replace(found, state="interrupted", done=resume_point(work))
    return untouched


def is_training(work: Path) -> bool:
    """Whether a process, of this or of another machine on a shared disk, trains in `work`."""
    return any(_is_held(path) for path in work.glob("lock*"))


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


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
        for path in sorted(paths.work.glob(f"{paths.scale}-{job.key}-*"))
        if path.is_dir() and path.name != job.work.name
    ]
