"""Stage `train`: one run of the plan. Interrupt it and start it again: it resumes."""

import argparse
import json
from collections.abc import Sequence

from opmask.errors import main
from opmask.integrity import summed_file
from opmask.planning.params import load_params
from opmask.planning.recorded import clear_recorded
from opmask.training.work import PUBLISHED, Planned, detections_file, planned
from pipeline import RUN_HELP


@main
def run(argv: Sequence[str]) -> None:
    """Train one planned run into `runs/<scale>/train/<run>`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    parser.add_argument(
        "--ahead",
        action="store_true",
        help="leave the trained run, with its detections, in the work folder (stage `sweep`)",
    )
    args = parser.parse_args(argv)
    params = load_params()
    job = planned(args.run, params)
    clear_recorded(params)
    if not job.is_ready():
        train(job, params["hardware"], ahead=args.ahead)
    if (job.work / PUBLISHED).is_dir():  # on the first machine
        job.trim()
        if not args.ahead:
            job.publish()


def train(job: Planned, settings: dict, *, ahead: bool) -> None:
    """Train `job` to its end in its work folder; `ahead` also detects on the validation images."""
    # torch and detectron2: seconds of start-up, only where something is left to do
    from opmask.evaluation import inference
    from opmask.training import jobs, trainer
    from opmask.training.provenance import provenance

    cfg = jobs.run_config(job.specification, job.manifest, job.weights)
    data = jobs.training_data(job.specification, job.manifest)
    hardware = jobs.hardware(settings)
    weights = trainer.train(cfg, data, job.work, hardware, description=job.key, trunk=job.trunk)
    if hardware.machine_rank > 0:
        return  # the first machine has the results
    if ahead:
        found = inference.detect_run(cfg, weights, job.manifest, hardware.workers, job.key)
        with summed_file(detections_file(job.work)) as file:
            file.write(json.dumps(found).encode())
    run = job.specification["run"]
    about = provenance(cfg, hardware, [job.work], run=run["name"], seed=run["seed"])
    trainer.export(job.work, job.work / PUBLISHED, about)


if __name__ == "__main__":
    run()
