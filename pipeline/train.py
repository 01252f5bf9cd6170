"""Stage `train`: one run of the plan. Interrupt it and start it again: it resumes."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import RUN_HELP, stage
from study.runs.recorded import clear_recorded
from study.runs.work import MODULE, Planned, planned
from study.spec.params import load_params
from study.spec.paths import PUBLISHED


@stage
def run(argv: Sequence[str]) -> None:
    """Train one planned run into `runs/<scale>/train/<run>`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    args = parser.parse_args(argv)
    params = load_params()
    job = planned(args.run, params)
    clear_recorded(params)
    if not job.is_ready():
        train(job, params["hardware"])
    if (job.work / PUBLISHED).is_dir():  # on the first machine
        job.trim()
        job.publish()


def train(job: Planned, settings: Mapping[str, Any]) -> None:
    """Train `job` to its end in its work folder, where it waits to be published."""
    # torch and detectron2: seconds of start-up, only where something is left to do
    from opmask.training import export, trainer
    from opmask.training.hardware import hardware_here
    from study.runs import jobs
    from study.runs.provenance import provenance

    cfg = jobs.run_config(job.specification, job.manifest, job.weights)
    data = jobs.training_data(job.specification, job.manifest)
    hardware = hardware_here(settings)
    trainer.train(cfg, data, job.work, hardware, description=job.key, trunk=job.trunk)
    if hardware.machine_rank > 0:
        return  # the first machine has the results
    run = job.specification["run"]
    about = provenance(cfg, hardware, [job.work], MODULE, run=run["name"], seed=run["seed"])
    export.export_training(job.work, job.work / PUBLISHED, about)


if __name__ == "__main__":
    run()
