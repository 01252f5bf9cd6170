"""Turns specifications into trainings: configs, initial weights, work folders, provenance."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import detectron2
import psutil
import torch
import yaml
from detectron2.config import CfgNode

from opmask import training
from opmask.coco import Manifest
from opmask.config import paper_config
from opmask.errors import UserError
from opmask.splits import resolve
from opmask.training import Hardware, TrainingData

# A checkpoint is resumed only by the code that wrote it.
SOURCES = (
    *("coco", "coco_checks", "coco_shapes", "config", "hooks", "jobs", "loader", "roi_heads"),
    *("splits", "training", "warm_start"),
)


def run_config(specification: Mapping[str, Any], manifest: Manifest, weights: str) -> CfgNode:
    """The detectron2 config of a run; the paper's own where the scale overrides nothing."""
    run = specification["run"]
    split = resolve(run["supervised"], manifest.categories, specification["splits"])
    names = [c["name"] for c in manifest.categories]
    cfg = _config(
        specification["method"],
        run["backbone"],
        [names.index(name) for name in split.supervised],
        len(names),
        specification["config"],
    )
    cfg.SOLVER.MAX_ITER = specification["max_iter"]
    cfg.SOLVER.STEPS = tuple(specification["steps"])
    cfg.SOLVER.CHECKPOINT_PERIOD = specification["checkpoint_period"]
    cfg.SOLVER.PRECISION = specification["precision"]
    cfg.SEED = run["seed"]
    if weights:
        cfg.MODEL.WEIGHTS = weights
    return cfg


def warm_start_config(
    phase: Mapping[str, Any], scale: Mapping[str, Any], backbone: str, manifest: Manifest
) -> CfgNode:
    """The config of one phase of the warm start: the scale's, then the phase's own settings."""
    overrides = {**scale["config"], **phase}
    cfg = _config({"mask_head": False}, backbone, [], len(manifest.categories), overrides)
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.CHECKPOINT_PERIOD = scale["checkpoint_period"]
    cfg.SOLVER.PRECISION = scale["precision"]
    cfg.SEED = 0  # one warm start, whatever the seeds of the runs
    return cfg


def _config(method, backbone, supervised, num_classes, overrides) -> CfgNode:  # noqa: ANN001
    try:
        cfg = paper_config(
            method=method,
            backbone=backbone,
            supervised=supervised,
            num_classes=num_classes,
            overrides=overrides,
        )
    except (KeyError, AssertionError, ValueError) as error:
        raise UserError(f"params.yaml: config: {error}") from error
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return cfg


def training_data(specification: Mapping[str, Any], manifest: Manifest) -> TrainingData:
    """The manifest's training images, with the masks of the run's supervised classes."""
    supervised = specification["run"]["supervised"]
    split = resolve(supervised, manifest.categories, specification["splits"])
    ids = tuple(c["id"] for c in manifest.categories if c["name"] in split.supervised)
    return TrainingData(manifest.train.annotations, manifest.train.images, ids)


def hardware(settings: Mapping[str, Any]) -> Hardware:
    """`params.yaml: hardware`, with `auto` replaced by what this machine has.

    Raises:
        UserError: more GPUs asked for than there are.
    """
    present = torch.cuda.device_count()
    gpus = present if settings["gpus"] == "auto" else int(settings["gpus"])
    if gpus > present:
        raise UserError(f"params.yaml: hardware.gpus: {gpus} asked for, {present} present")
    workers = int(settings["workers"]) if gpus else 0
    rest = {key: settings[key] for key in ("machines", "machine_rank", "dist_url")}
    return Hardware(gpus=gpus, workers=workers, **rest)


def work_folder(label: str, cfg: CfgNode, data: TrainingData) -> Path:
    """`work/<label>-<hash>`: the hash covers config, initial weights, annotations and code."""
    digest = hashlib.sha256(cfg.dump().encode())
    digest.update(repr((data.supervised_ids, data.image_ids)).encode())
    sources = [Path(__file__).with_name(f"{name}.py") for name in SOURCES]
    for path in [data.annotations, Path(cfg.MODEL.WEIGHTS), *sources]:
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Path("work", f"{label}-{digest.hexdigest()[:12]}")


def provenance(cfg: CfgNode, hardware: Hardware, works: Sequence[Path], **more: Any) -> str:
    """JSON that says what made a result: code, versions, machine, time spent in `works`."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None

    commit, dirty = _commit()
    content = {
        **more,
        "iterations": cfg.SOLVER.MAX_ITER,
        "precision": cfg.SOLVER.PRECISION,
        "wall_s": round(sum(map(training.seconds, works)), 1),
        "peak_memory_gib": round(_peak_memory(), 2),
        "hardware": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "ram_gib": round(psutil.virtual_memory().total / 2**30),
            "gpu": gpu,
            "gpus": hardware.gpus * hardware.machines,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "detectron2": detectron2.__version__,
        },
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    return json.dumps(content, indent=2)


def _peak_memory() -> float:
    """Largest resident size of this process so far, GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if "model name" in line), "unknown"
    )


def _commit() -> tuple[str | None, bool]:
    """The commit, and whether code or parameters differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "opmask", "pipeline", "params.yaml")
        return git("rev-parse", "--short=10", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, False


def load_specification(path: Path) -> dict[str, Any]:
    """A file of the `plan` stage.

    Raises:
        UserError: it does not exist; names the runs that do.
    """
    if not path.is_file():
        runs = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise UserError(f"{path}: no such run is planned; there are {runs}")
    return yaml.safe_load(path.read_text())
