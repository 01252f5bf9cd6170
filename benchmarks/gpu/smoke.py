"""Part `smoke`: the stages that use a GPU, at scale `smoke`, in a copy of the project."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.gpu.setting import Row, Setting
from study.spec.params import CHOICES, PAPER, SCALES

STAGES = ("plan", "inputs", "data", "splits", "pretrain", "train", "evaluate", "cam")
RUN = "opmask-R50-voc"
TRAINED = f"runs/smoke/train/{RUN}-0"
OTHERS = (
    ("pilot", "pipeline.pilot", "--iterations", "10", "--images", "4"),
    ("predict", "opmask.predict", "data/smoke/val", "--run", TRAINED, "--threshold", "0"),
)


def smoke(setting: Setting) -> Iterator[Row]:
    """Seconds of each stage, by `dvc repro` where DVC is installed; of the pilot and a prediction;
    which GPU the training says that it used."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _copy_project(root, setting.on_gpu)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for DVC's python
        dvc = importlib.util.find_spec("dvc") is not None
        by_dvc = [(name, "dvc", "repro", "--single-item", name) for name in ("code", *STAGES)]
        alone = [(name, f"pipeline.{name}") for name in STAGES]
        for name, module, *arguments in (*(by_dvc if dvc else alone), *OTHERS):
            command, started = [sys.executable, "-m", module, *arguments], time.perf_counter()
            done = subprocess.run(
                command, cwd=root, env=os.environ | {"PATH": path}, capture_output=True, text=True
            )
            row = {"what": name, "dvc": dvc, "seconds": time.perf_counter() - started}
            if done.returncode:
                yield {**row, "error": (done.stdout + done.stderr)[-400:]}
                return
            yield row
        about = root / TRAINED / "provenance.json"
        yield {"what": "trained on", **json.loads(about.read_text())["hardware"]}


def _copy_project(root: Path, on_gpu: bool) -> None:
    """What the stages need, with parameters for two runs; to DVC, no repository of git's."""
    for name in ("opmask", "study", "pipeline", SCALES):
        shutil.copytree(name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (CHOICES, PAPER, "dvc.yaml"):
        shutil.copy(name, root)
    params = yaml.safe_load((root / CHOICES).read_text())
    params |= {"scale": "smoke", "runs": [RUN, "fasterrcnn-R50-all"]}
    params["hardware"]["gpus"] = 1 if on_gpu else 0
    (root / CHOICES).write_text(yaml.safe_dump(params))
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\nno_scm = true\nanalytics = false\n")
