"""How far each planned run is, from what trainings leave in work/ and runs/.

Nothing here writes, and nothing needs torch: it may be looked at as often as one likes while a
training goes on.
"""

import functools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opmask.data.coco import load_manifest
from opmask.training.files import FINAL
from study.runs.folders import PUBLISHED, folder
from study.runs.work import MODULE, Planned
from study.spec.code import code_of
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
_TAIL = 16384  # bytes of a log in which its last whole line is looked for


@dataclass(frozen=True)
class Progress:
    """One run, or one phase of the warm start: a state of STATES and iterations done of `total`.

    seconds: an iteration at present, NaN if unknown; losses: the last logged, by detectron2's name.
    """

    name: str
    state: str
    done: int
    total: int
    seconds: float = math.nan
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def eta(self) -> float:
        """Seconds until the last iteration, if it trains now; else NaN."""
        return (self.total - self.done) * self.seconds if self.state == "training" else math.nan


def progress(params: Mapping[str, Any]) -> list[Progress]:
    """Every phase of the warm start, then every planned run, in the order of params.yaml."""
    return [*warm_start_progress(params), *(run_progress(run, params) for run in all_runs(params))]


def run_progress(run: Run, params: Mapping[str, Any]) -> Progress:
    """How far `run` is with the settings that params.yaml has now."""
    total = specification(run, params)["max_iter"]
    published = Path("runs", params["scale"], "train", run.key)
    untouched = "stale" if (published / "provenance.json").is_file() else "waiting"
    job = as_planned(run, params)
    if job is None:
        return Progress(run.key, untouched, 0, total)
    if job.is_published():
        return Progress(run.key, "published", total, total, *_last_log(job.out)[1:])
    return _working(run.key, job.work, total, untouched)


def as_planned(run: Run, params: Mapping[str, Any]) -> Planned | None:
    """The run as params.yaml has it now, whatever stage `plan` wrote last.

    None while its data set or initial weights are missing or were made with other settings: what
    it will start from is not known yet.
    """
    scale = params["scale"]
    root, manifest = Path("runs", scale), Path("data", scale, "manifest.json")
    weights = root / "pretrain" / "weights" / f"{run.backbone}.pth"
    needs_weights = run.backbone in params["scales"][scale]["warm_start"]
    if not (_is_current("data", params) and manifest.is_file()):
        return None
    if needs_weights and not _has_warm_start(run.backbone, params):
        return None
    spec, found = specification(run, params), load_manifest(manifest)
    work = _folder(f"{scale}-{run.key}", MODULE, spec, [manifest, weights])
    initial = str(weights) if weights.exists() else ""
    return Planned(run.key, spec, found, initial, work, root / "train" / run.key)


def _is_current(name: str, params: Mapping[str, Any]) -> bool:
    """Whether what is on disk was planned with the present settings of stage `name`."""
    path = Path("runs", params["scale"], "plan", f"{name}.yaml")
    return path.is_file() and load_specification(path) == shared_specifications(params)[name]


def _has_warm_start(backbone: str, params: Mapping[str, Any]) -> bool:
    """Whether a backbone's initial weights are there, of the present settings and code."""
    folder = Path("runs", params["scale"], "pretrain")
    about = folder / backbone / "provenance.json"
    return (
        (folder / "weights" / f"{backbone}.pth").is_file()
        and _is_current("pretrain", params)
        and about.is_file()
        and json.loads(about.read_text()).get("code") == code_of("pipeline.pretrain")
    )


def _folder(label: str, module: str, content: Any, files: Sequence[Path]) -> Path:
    """`work.folder`, which reads all of `files`, only when one of them has changed."""
    stamps = [(str(path), path.stat().st_mtime_ns) for path in files if path.is_file()]
    return _remembered(label, module, json.dumps(content), tuple(stamps))


@functools.lru_cache
def _remembered(label: str, module: str, content: str, stamps: tuple[tuple[str, int], ...]) -> Path:
    return folder(label, module, json.loads(content), [Path(name) for name, _ in stamps])


def warm_start_progress(params: Mapping[str, Any]) -> Iterator[Progress]:
    """Every phase of every backbone's warm start; none at a scale that starts from ImageNet."""
    name, scale = params["scale"], params["scales"][params["scale"]]
    for backbone, recipe in scale["warm_start"].items():
        phases = recipe["phases"]
        weights = Path("runs", name, "pretrain", "weights", f"{backbone}.pth")
        done = _has_warm_start(backbone, params)
        works = [Path()] * len(phases) if done else _phase_folders(backbone, params)
        for number, (phase, work) in enumerate(zip(phases, works, strict=True), start=1):
            label, total = f"pretrain {backbone} {number}/{len(phases)}", phase_length(phase, scale)
            if done:
                yield Progress(label, "published", total, total)
                continue
            found = _working(label, work, total, "stale" if weights.is_file() else "waiting")
            is_over = found.state == "finishing"  # a phase detects and publishes nothing itself
            yield replace(found, state="trained ahead") if is_over else found


def _phase_folders(backbone: str, params: Mapping[str, Any]) -> list[Path]:
    """Where stage `pretrain` trains each phase; "none" where that is not known yet."""
    name, scale = params["scale"], params["scales"][params["scale"]]
    recipe, manifest = scale["warm_start"][backbone], Path("data", name, "manifest.json")
    if not (_is_current("data", params) and manifest.is_file()):
        return [Path("work", "none")] * len(recipe["phases"])
    weights = Path("work", f"{name}-{backbone}-deepened.pth" if "deepen" in recipe else "none")
    works = []
    for number, phase in enumerate(recipe["phases"], start=1):
        content = [phase, scale["config"], scale["precision"], params["backbones"][backbone]]
        label = f"{name}-pretrain-{backbone}-{number}"
        works.append(_folder(label, "pipeline.pretrain", content, [manifest, weights]))
        weights = works[-1] / FINAL
    return works


def phase_length(phase: Mapping[str, Any], scale: Mapping[str, Any]) -> int:
    """Length of a phase of the warm start; 40000 is detectron2's default."""
    return int({**scale["config"], **phase}.get("SOLVER.MAX_ITER", 40000))


def _working(name: str, work: Path, total: int, untouched: str) -> Progress:
    """A run that is not published, from its work folder; `untouched` if there is none."""
    logged, *log = _last_log(work)
    if is_training(work):
        return Progress(name, "training", logged, total, *log)
    if (work / PUBLISHED).is_dir():
        return Progress(name, "trained ahead", total, total, *_last_log(work / PUBLISHED)[1:])
    if (work / FINAL).is_file():
        return Progress(name, "finishing", total, total, *log)
    if any(work.glob("lock*")):  # a published run leaves a folder without one behind
        return Progress(name, "interrupted", resume_point(work), total, *log)
    return Progress(name, untouched, 0, total)


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


def _last_log(folder: Path) -> tuple[int, float, dict[str, float]]:
    """Iterations done, seconds an iteration (NaN: not measured yet) and losses, of the last whole
    line of detectron2's metrics.json."""
    for line in reversed(_tail(folder / "metrics.json")):
        try:
            values = json.loads(line)
            done = int(values["iteration"]) + 1
        except (ValueError, KeyError, TypeError):  # half a line, or one without losses
            continue
        losses = {name: value for name, value in values.items() if "loss" in name}
        if losses:
            return done, float(values.get("time", math.nan)), losses
    return 0, math.nan, {}


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().splitlines()
    except OSError:
        return []


def abandoned(params: Mapping[str, Any]) -> list[Path]:
    """Work folders of planned runs that belong to other settings, data or code than the present."""
    jobs = {run.key: as_planned(run, params) for run in all_runs(params)}
    return [
        path
        for key, job in jobs.items()
        for path in sorted(Path("work").glob(f"{params['scale']}-{key}-*"))
        if path.is_dir() and job is not None and path.name != job.work.name
    ]
