"""Stage `train`: one run of the plan. Interrupt it and start it again: it resumes."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from opmask.errors import main
from opmask.params import load_params


@main
def run(argv: Sequence[str]) -> None:
    """Train one planned run into `runs/<scale>/train/<run>`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=__doc__)
    parser.add_argument(
        "run", help="METHOD-BACKBONE-SUPERVISED[-SCHEDULE]-SEED, e.g. opmask-R50-voc-0"
    )
    key = parser.parse_args(argv).run
    params = load_params()
    root = Path("runs", params["scale"])

    from opmask import (
        jobs,
        training,
    )  # torch and detectron2: after the arguments are known to be good
    from opmask.coco import load_manifest

    spec = jobs.load_specification(root / "plan" / f"{key}.yaml")
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    weights = root / "pretrain" / "weights" / f"{spec['run']['backbone']}.pth"
    cfg = jobs.run_config(spec, manifest, str(weights) if weights.exists() else "")
    data = jobs.training_data(spec, manifest)
    hardware = jobs.hardware(params["hardware"])
    work = jobs.work_folder(f"{params['scale']}-{key}", cfg, data)
    training.train(cfg, data, work, hardware, description=key)
    if hardware.machine_rank > 0:
        return  # the first machine has the results
    about = jobs.provenance(
        cfg, hardware, [work], run=spec["run"]["name"], seed=spec["run"]["seed"]
    )
    training.export(work, root / "train" / key, about)
    shutil.rmtree(work)


if __name__ == "__main__":
    run()
