"""What made a result: code, versions, machine and time, for `provenance.json`."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import detectron2
import psutil
import torch
from detectron2.config import CfgNode

from opmask.training import trainer
from opmask.training.hardware import Hardware
from study.spec.code import code_of


def provenance(
    cfg: CfgNode, hardware: Hardware, works: Sequence[Path], module: str, **more: Any
) -> str:
    """JSON that says what made a result: code, versions, machine, time spent in `works`.

    `module` is the one whose code made it.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    commit, dirty = current_commit()
    sessions = [session for work in works for session in trainer.sessions(work)]
    content = {
        **more,
        "iterations": cfg.SOLVER.MAX_ITER,
        "precision": cfg.SOLVER.PRECISION,
        # in which the training began with what others had trained already
        "shared_iterations": max((s.get("shared_iterations", 0) for s in sessions), default=0),
        "wall_s": round(sum(s["seconds"] for s in sessions), 1),
        "peak_memory_gib": max((s["peak_memory_gib"] for s in sessions), default=None),
        "work": works[-1].name,
        "hardware": {
            "cpu": cpu_name(),
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
        "code": code_of(module),
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    return json.dumps(content, indent=2)


def cpu_name() -> str:
    """What the processor calls itself, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if "model name" in line), "unknown"
    )


def current_commit() -> tuple[str | None, bool]:
    """The commit, and whether code or parameters differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "opmask", "study", "pipeline", "params.yaml")
        return git("rev-parse", "--short=10", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, False
