"""How long trainings take: from a calibration on this machine, else from runs that are finished.

`calibrate` trains a few real iterations of each kind of run, as many at a time as the sweep will,
since runs that share a machine slow each other down. It needs torch; all else here does not.
"""

import hashlib
import heapq
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from opmask.data import coco
from opmask.data.coco import load_manifest
from opmask.errors import UserError
from opmask.integrity import write_durably
from study.runs.side_by_side import killed
from study.runs.status import phase_length
from study.spec.results import read_json
from study.spec.run import Run, all_runs, specification

FILE = Path("work", "calibration.json")
IMAGES = 16  # validation images that a calibration detects on
ITERATIONS = 12  # of a calibration; detectron2 leaves the first three out of its timing
_WARM_START = "pretrain"


@dataclass(frozen=True)
class Pace:
    """Seconds: before the first iteration, an iteration, and a validation image afterwards."""

    start: float
    iteration: float
    image: float
    source: str  # calibrated | finished runs

    def seconds(self, iterations: int, images: int) -> float:
        """Of a run that has so many iterations before it, and detects on so many images."""
        return self.start + iterations * self.iteration + images * self.image


def kind(run: Run) -> str:
    """What a run's pace depends on: METHOD-BACKBONE."""
    return f"{run.method}-{run.backbone}"


def warm_start_kind(backbone: str) -> str:
    """The name under which a whole warm start has its pace: all of it is `start`."""
    return f"{_WARM_START}-{backbone}"


def known_paces(params: Mapping[str, Any], places: int) -> dict[str, Pace]:
    """The pace of each kind, where known: calibrated, else of the scale's finished runs."""
    found = finished_paces(params)
    for name, one in _calibrations().get(params["scale"], {}).items():
        if one["settings"] == fingerprint(name, params, places):
            found[name] = Pace(**one["pace"], source="calibrated")
    return found


def fingerprint(name: str, params: Mapping[str, Any], places: int) -> str:
    """Of all in params.yaml that the pace of kind `name` depends on, with `places` side by side."""
    first, backbone = name.split("-")
    scale = params["scales"][params["scale"]]
    model = scale["warm_start"] if first == _WARM_START else params["methods"].get(first)
    content = [
        model,
        params["backbones"][backbone],
        *(scale[key] for key in ("data", "config", "precision")),
    ]
    text = json.dumps([*content, 1 if first == _WARM_START else places], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def finished_paces(params: Mapping[str, Any]) -> dict[str, Pace]:
    """Medians over the scale's trainings that are finished, whatever machine they ran on."""
    root, scale = Path("runs", params["scale"]), params["scales"][params["scale"]]
    source = "finished runs"
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(root.glob("train/*/provenance.json")):
        about = read_json(path)
        detected = read_json(root / "evaluate" / path.parent.name / path.name)
        image = detected["seconds"] / detected["images"] if detected else 0.0
        pace = about["wall_s"] / about["iterations"], image
        found.setdefault("-".join(about["run"].split("-")[:2]), []).append(pace)
    paces = {
        name: Pace(0.0, *map(statistics.median, zip(*values, strict=True)), source)
        for name, values in found.items()
    }
    for path in sorted(root.glob("pretrain/*/provenance.json")):
        about, backbone = read_json(path), path.parent.name
        recipe = scale["warm_start"].get(backbone)
        if recipe:  # it may have had another length
            ratio = phase_length(recipe["phases"][-1], scale) / about["iterations"]
            paces[warm_start_kind(backbone)] = Pace(about["wall_s"] * ratio, 0.0, 0.0, source)
    return paces


def makespan(durations: Sequence[float], places: int) -> float:
    """Wall time of runs that start longest first, each as soon as one of `places` is free."""
    free = [0.0] * places
    for duration in sorted(durations, reverse=True):
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def distinct(params: Mapping[str, Any]) -> dict[str, Run]:
    """One planned run of each kind, the first."""
    found: dict[str, Run] = {}
    for run in all_runs(params):
        found.setdefault(kind(run), run)
    return found


def calibrate(names: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
    """Time all kinds `names` into FILE: warm starts alone, then runs in `environments` (`places`).

    Raises:
        UserError: one failed; gives the last line that it wrote.
    """
    warm = [name for name in names if name.startswith(f"{_WARM_START}-")]
    for name in warm:
        _in_process(name, {}, len(environments))
    free: queue.SimpleQueue = queue.SimpleQueue()
    for environment in environments:
        free.put(environment)

    def one(name: str) -> None:
        environment = free.get()
        try:
            _in_process(name, environment, len(environments))
        finally:
            free.put(environment)

    with ThreadPoolExecutor(len(environments)) as pool:
        list(pool.map(one, [name for name in names if name not in warm]))


def _command(name: str, places: int) -> list[str]:
    return [sys.executable, "-m", "pipeline.outline", "--measure", name, str(places)]


def _in_process(name: str, environment: Mapping[str, str], places: int) -> None:
    done = subprocess.run(
        _command(name, places), env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.replace("\r", "\n").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        reason = killed(done.returncode) or last.removeprefix("error: ")
        raise UserError(f"calibration of {name}: {reason}")


def measure(name: str, params: Mapping[str, Any], places: int) -> None:
    """Time kind `name` in this process and write it to FILE, beside other kinds and scales."""
    FILE.parent.mkdir(exist_ok=True)
    first, backbone = name.split("-")
    pace = _warm_start(backbone, params) if first == _WARM_START else _run(name, params)
    one = {"settings": fingerprint(name, params, places), "pace": pace}
    with FileLock(FILE.with_suffix(".lock")):
        content = _calibrations()
        content.setdefault(params["scale"], {})[name] = one
        write_durably(FILE, json.dumps(content, indent=1))


def _calibrations() -> dict[str, dict[str, dict[str, Any]]]:
    """What FILE has: settings and pace by scale and kind."""
    return read_json(FILE)


def _run(name: str, params: Mapping[str, Any]) -> dict[str, float]:
    from opmask.evaluation import inference
    from opmask.training.hardware import hardware_here
    from study.runs import jobs

    run = distinct(params)[name]
    spec = specification(run, params)
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    weights = Path("runs", params["scale"], "pretrain", "weights", f"{run.backbone}.pth")
    cfg = jobs.run_config(spec, manifest, "")
    cfg.MODEL.WEIGHTS = str(weights) if weights.is_file() else ""
    hardware, data = hardware_here(params["hardware"]), jobs.training_data(spec, manifest)
    images = coco.load_json(manifest.val.annotations)["images"][:IMAGES]
    ids = [category["id"] for category in manifest.categories]
    with tempfile.TemporaryDirectory(prefix="calibration-", dir="work") as work:
        start, iteration, final = _train(cfg, data, hardware, Path(work))
        model = inference.load_model(cfg, final)
        began = time.monotonic()
        inference.detect(model, cfg, images, manifest.val.images, ids, workers=hardware.workers)
    image = (time.monotonic() - began) / len(images)
    return {"start": round(start, 3), "iteration": round(iteration, 5), "image": round(image, 5)}


def _warm_start(backbone: str, params: Mapping[str, Any]) -> dict[str, float]:
    from opmask.training.hardware import hardware_here
    from opmask.training.trainer import TrainingData
    from study.runs.configs import warm_start_config

    scale = params["scales"][params["scale"]]
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    data = TrainingData(manifest.train.annotations, manifest.train.images, ())
    seconds = 0.0
    for phase in scale["warm_start"][backbone]["phases"]:
        cfg = warm_start_config(phase, scale, params["backbones"][backbone], manifest)
        length, cfg.MODEL.WEIGHTS = cfg.SOLVER.MAX_ITER, ""
        with tempfile.TemporaryDirectory(prefix="calibration-", dir="work") as work:
            start, iteration, _ = _train(cfg, data, hardware_here(params["hardware"]), Path(work))
        seconds += start + length * iteration
    return {"start": round(seconds, 1), "iteration": 0.0, "image": 0.0}


def _train(cfg: Any, data: Any, hardware: Any, work: Path) -> tuple[float, float, Path]:
    """Seconds before the first and of an iteration, and the weights.

    The learning rate is 0: random weights, where there is no better, take as long and cannot
    diverge.
    """
    from opmask.training import trainer

    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.BASE_LR = ITERATIONS, (), 0.0
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.SNAPSHOT_PERIOD = ITERATIONS, 0
    began = time.monotonic()
    final = trainer.train(cfg, data, work, hardware, description="calibration")
    took = time.monotonic() - began
    lines = [json.loads(line) for line in (work / "metrics.json").read_text().splitlines()]
    iteration = statistics.median(line["time"] for line in lines if "time" in line)
    return max(0.0, took - ITERATIONS * iteration), iteration, final
