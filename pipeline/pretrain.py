"""Stage `pretrain`: initial weights per backbone, for scales that do not start from ImageNet."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opmask.integrity import SUMS, seal
from pipeline import stage, write_json
from study.runs.folders import deepened_file, phase_folder
from study.runs.store import phases
from study.spec.params import load_params
from study.spec.paths import WEIGHTS, Paths

MODULE = "pipeline.pretrain"  # what a warm start rests on


@stage
def run(argv: Sequence[str]) -> None:
    """Run the scale's warm start into `runs/<scale>/pretrain/`, weights apart from records."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.pretrain", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    warm_start = params["scales"][params["scale"]]["warm_start"]
    source = list(warm_start) or "ImageNet, by detectron2"
    write_json(paths.weights / "source.json", {"weights": source})
    (paths.weights / SUMS).unlink(missing_ok=True)
    names = {
        f"{backbone}-{number}": work.name
        for backbone in warm_start
        for number, work in enumerate(pretrain(backbone, params), start=1)
    }
    seal(paths.weights)
    phases(paths).forget(names)


def pretrain(backbone: str, params: Mapping[str, Any]) -> list[Path]:
    """Train one backbone's phases, each from the one before; returns their work folders."""
    from opmask.data.coco import load_manifest
    from opmask.training import export, trainer, warm_start
    from opmask.training.hardware import hardware_here
    from study.runs.configs import warm_start_config
    from study.runs.provenance import provenance

    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    data = trainer.TrainingData(manifest.train.annotations, manifest.train.images, ())
    hardware = hardware_here(params["hardware"])
    scale = params["scales"][params["scale"]]
    recipe = scale["warm_start"][backbone]
    works: list[Path] = []
    definition = params["backbones"][backbone]
    for number, phase in enumerate(recipe["phases"], start=1):
        cfg = warm_start_config(phase, scale, definition, manifest)
        if number == 1:  # from ImageNet only where params.yaml says so
            weights = cfg.MODEL.WEIGHTS if "weights" in definition else ""
        if number == 1 and "deepen" in recipe:
            shallow = paths.initial(recipe["deepen"])
            weights = warm_start.deepen(shallow, cfg, deepened_file(backbone, params))
        cfg.MODEL.WEIGHTS = str(weights)
        works.append(phase_folder(MODULE, backbone, number, Path(weights), params))
        description = f"pretrain {backbone} {number}/{len(recipe['phases'])}"
        weights = trainer.train(cfg, data, works[-1], hardware, description=description)
    about = provenance(cfg, hardware, works, MODULE, backbone=backbone)
    out = paths.pretrain / backbone
    export.export_training(works[-1], out, about)
    (out / WEIGHTS).rename(paths.initial(backbone))
    seal(out)
    return works


if __name__ == "__main__":
    run()
