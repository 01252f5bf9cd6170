"""Trains one run of the plan ahead of its stage, with its detections, as stage `sweep` asks for.

Both wait in the run's work folder for stages `train` and `evaluate`. Apart from stage `train`, so
that no training depends on how detections are made.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from opmask.errors import UserError, main
from opmask.integrity import summed_file
from pipeline import RUN_HELP
from pipeline.train import train
from study.runs.ahead import detections_file
from study.runs.work import Planned, planned
from study.spec.params import load_params
from study.spec.paths import PUBLISHED, WEIGHTS


@main
def run(argv: Sequence[str]) -> None:
    """Train and detect in the run's work folder."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ahead", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    parser.add_argument("--work", help="name of the work folder that the run should have")
    args = parser.parse_args(argv)
    params = load_params()
    job = planned(args.run, params)
    if args.work not in (None, job.work.name):  # modules loaded before the edit, others after it
        raise UserError("code, data or parameters were changed during the sweep: repeat dvc repro")
    if not job.is_ready():
        train(job, params["hardware"])
    if not detections_file(job.work).is_file():
        detect(job, params["hardware"])
    job.trim()


def detect(job: Planned, settings: Mapping[str, Any]) -> None:
    """What the trained `job` finds in the validation images, beside its weights."""
    # torch and detectron2: seconds of start-up
    from opmask.evaluation import inference
    from opmask.training.hardware import hardware_here
    from study.runs import jobs

    cfg = jobs.run_config(job.specification, job.manifest, job.weights)
    workers = hardware_here(settings).workers
    weights = job.work / PUBLISHED / WEIGHTS
    found = inference.detect_run(cfg, weights, job.manifest, workers, job.key)
    with summed_file(detections_file(job.work)) as file:
        file.write(json.dumps(found).encode())


if __name__ == "__main__":
    run()
