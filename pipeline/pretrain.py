"""Stage `pretrain`: initial weights of a backbone, for scales that do not start from ImageNet."""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from opmask.errors import main
from opmask.params import load_params


@main
def run(argv: Sequence[str]) -> None:
    """Run the scale's warm start, each phase from the one before, into `runs/<scale>/pretrain/`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.pretrain", description=__doc__)
    parser.add_argument("backbone", help="one of params.yaml: backbones")
    backbone = parser.parse_args(argv).backbone
    params = load_params()
    scale = params["scales"][params["scale"]]
    out = Path("runs", params["scale"], "pretrain", backbone)
    if not scale["warm_start"]:
        out.mkdir(parents=True, exist_ok=True)
        (out / "provenance.json").write_text(json.dumps({"weights": "ImageNet, by detectron2"}))
        return

    from opmask import jobs, training
    from opmask.coco import load_manifest

    started = time.monotonic()
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    data = training.TrainingData(manifest.train.annotations, manifest.train.images, ())
    hardware = jobs.hardware(params["hardware"])
    weights, works = "", []
    for number, phase in enumerate(scale["warm_start"], start=1):
        cfg = jobs.warm_start_config(phase, scale, backbone, manifest)
        cfg.MODEL.WEIGHTS = weights
        label = f"{params['scale']}-pretrain-{backbone}-{number}"
        works.append(jobs.work_folder(label, cfg, data))
        description = f"pretrain {backbone} {number}/{len(scale['warm_start'])}"
        weights = str(training.train(cfg, data, works[-1], hardware, description=description))
    training.export(works[-1], out, jobs.provenance(cfg, hardware, started, backbone=backbone))
    for work in works:
        shutil.rmtree(work)


if __name__ == "__main__":
    run()
