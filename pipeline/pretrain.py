"""Stage `pretrain`: initial weights per backbone, for scales that do not start from ImageNet."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opmask.integrity import SUMS, seal
from opmask.training.files import FINAL
from pipeline import stage, write_json
from study.runs.folders import folder
from study.spec.params import load_params

MODULE = "pipeline.pretrain"  # what a warm start rests on


@stage
def run(argv: Sequence[str]) -> None:
    """Run the scale's warm start into `runs/<scale>/pretrain/`, weights apart from records."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.pretrain", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    out = Path("runs", params["scale"], "pretrain")
    warm_start = params["scales"][params["scale"]]["warm_start"]
    source = list(warm_start) or "ImageNet, by detectron2"
    write_json(out / "weights" / "source.json", {"weights": source})
    (out / "weights" / SUMS).unlink(missing_ok=True)
    for name in warm_start:  # their work folders stay until DVC has recorded this stage
        pretrain(name, warm_start[name], out, params)
    seal(out / "weights")


def pretrain(backbone: str, recipe: dict, out: Path, params: dict[str, Any]) -> list[Path]:
    """Train one backbone's phases, each from the one before; returns their work folders."""
    from opmask.data.coco import load_manifest
    from opmask.training import export, trainer, warm_start
    from opmask.training.hardware import hardware_here
    from study.runs.configs import warm_start_config
    from study.runs.provenance import provenance

    described = Path("data", params["scale"], "manifest.json")
    manifest = load_manifest(described)
    data = trainer.TrainingData(manifest.train.annotations, manifest.train.images, ())
    hardware = hardware_here(params["hardware"])
    scale = params["scales"][params["scale"]]
    works: list[Path] = []
    definition = params["backbones"][backbone]
    for number, phase in enumerate(recipe["phases"], start=1):
        cfg = warm_start_config(phase, scale, definition, manifest)
        if number == 1:  # from ImageNet only where params.yaml says so
            weights = cfg.MODEL.WEIGHTS if "weights" in definition else ""
        if number == 1 and "deepen" in recipe:
            shallow = out / "weights" / f"{recipe['deepen']}.pth"
            deepened = Path("work", f"{params['scale']}-{backbone}-deepened.pth")
            weights = warm_start.deepen(shallow, cfg, deepened)
        cfg.MODEL.WEIGHTS = str(weights)
        label = f"{params['scale']}-pretrain-{backbone}-{number}"
        content = [phase, scale["config"], scale["precision"], definition]
        works.append(folder(label, MODULE, content, [described, Path(weights)]))
        description = f"pretrain {backbone} {number}/{len(recipe['phases'])}"
        weights = trainer.train(cfg, data, works[-1], hardware, description=description)
    about = provenance(cfg, hardware, works, MODULE, backbone=backbone)
    export.export_training(works[-1], out / backbone, about)
    (out / backbone / FINAL).rename(out / "weights" / f"{backbone}.pth")
    seal(out / backbone)
    return works


if __name__ == "__main__":
    run()
