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
from study.spec.params import CHOICES, PAPER, SCALES


def provenance(
    cfg: CfgNode, hardware: Hardware, works: Sequence[Path], modules: Sequence[str], **more: Any
) -> str:
    """JSON that says what made a result: code, versions, machine, time spent in `works`.

    `modules` are those whose code made it.
    """
    commit, dirty = current_commit()
    sessions = [session for work in works for session in trainer.sessions(work)]
    content = {
        **more,
        "iterations": cfg.SOLVER.MAX_ITER,
        "shared_iterations": max((s.get("shared_iterations", 0) for s in sessions), default=0),
        "precision": cfg.SOLVER.PRECISION,
        "wall_s": round(sum(s["seconds"] for s in sessions), 1),
        "peak_memory_gib": max((s["peak_memory_gib"] for s in sessions), default=None),
        "work": works[-1].name,
        "hardware": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "ram_gib": round(psutil.virtual_memory().total / 2**30),
            **gpu(),
            "gpus": hardware.gpus * hardware.machines,
            "processes": hardware.world,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "detectron2": detectron2.__version__,
        },
        "code": code_of(*modules),
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    return json.dumps(content, indent=2)


def gpu() -> dict[str, Any]:
    """`gpu`, the first one's name, used or not, its `gpu_memory_gib` and `gpu_driver`, or None."""
    if not torch.cuda.is_available():
        return {"gpu": None}
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        driver = done.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = None
    memory = round(properties.total_memory / 2**30, 1)
    return {"gpu": properties.name, "gpu_memory_gib": memory, "gpu_driver": driver}


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
        folders = ("opmask", "study", "pipeline", SCALES)
        changed = git("status", "--porcelain", "--", *folders, CHOICES, PAPER)
        return git("rev-parse", "--short=10", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, False
