"""Part `smoke`: the stages that use a GPU, at scale `smoke`, in a copy of the project."""

import importlib.util
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Row, Setting
from benchmarks.project import call, copy_project, repro
from study.spec.params import CHOICES

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
        copy_project(root, {CHOICES: _choices(setting.on_gpu)})
        dvc = importlib.util.find_spec("dvc") is not None
        by_dvc = [(name, *repro(name)) for name in ("code", *STAGES)]
        alone = [(name, f"pipeline.{name}") for name in STAGES]
        for name, module, *arguments in (*(by_dvc if dvc else alone), *OTHERS):
            started = time.perf_counter()
            done = call(root, module, *arguments)
            row = {"what": name, "dvc": dvc, "seconds": time.perf_counter() - started}
            if done.returncode:
                yield {**row, "error": (done.stdout + done.stderr)[-400:]}
                return
            yield row
        about = root / TRAINED / "provenance.json"
        yield {"what": "trained on", **json.loads(about.read_text())["hardware"]}


def _choices(on_gpu: bool) -> Mapping[str, Any]:
    """Parameters for two runs."""
    hardware = {"gpus": 1 if on_gpu else 0}
    return {"scale": "smoke", "runs": [RUN, "fasterrcnn-R50-all"], "hardware": hardware}
