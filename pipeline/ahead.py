"""Trains one run of the plan ahead of its stage, with its detections, as stage `sweep` asks for.

Both wait in the run's work folder for stages `train` and `evaluate`. Apart from stage `train`, so
that no training depends on how detections are made.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from opmask.errors import UserError, main
from opmask.evaluation.ahead import detections_file
from opmask.planning.params import load_params
from opmask.training.folders import FINAL, PUBLISHED
from opmask.training.work import Planned, planned
from pipeline import RUN_HELP
from pipeline.train import train


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
    if not (job.work / PUBLISHED).exists():
        train(job, params["hardware"])
    if not detections_file(job.work).exists():
        detect(job, params["hardware"])


def detect(job: Planned, settings: Mapping[str, Any]) -> None:
    """What the trained `job` finds in the validation images, beside its weights."""
    # torch and detectron2: seconds of start-up
    from opmask.evaluation import inference
    from opmask.training import jobs
    from opmask.training.hardware import hardware_here

    cfg = jobs.run_config(job.specification, job.manifest, job.weights)
    workers = hardware_here(settings).workers
    found = inference.detect_run(cfg, job.work / FINAL, job.manifest, workers, job.key)
    partial = job.work / "detections.partial"
    partial.write_text(json.dumps(found))
    partial.rename(detections_file(job.work))


if __name__ == "__main__":
    run()
