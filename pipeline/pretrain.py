"""Stage `pretrain`: initial weights per backbone, for scales that do not start from ImageNet."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opmask.errors import UserError
from opmask.integrity import SUMS, seal, write_durably
from pipeline import stage, write_json
from study.runs.folders import deepened_file, phase_folder, scenes_folder
from study.runs.store import phases
from study.spec.code import code_of
from study.spec.params import SHIPPED, load_params
from study.spec.paths import PROVENANCE, WEIGHTS, Paths

MODULE = "pipeline.pretrain"  # what a warm start rests on


@stage
def run(argv: Sequence[str]) -> None:
    """Put the scale's initial weights, shipped or trained, into `runs/<scale>/pretrain/`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.pretrain", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    scale = params["scales"][params["scale"]]
    source = list(scale["warm_start"]) or "ImageNet, by detectron2"
    write_json(paths.weights / "source.json", {"weights": source})
    (paths.weights / SUMS).unlink(missing_ok=True)
    make = take_shipped if scale.get("initial_weights") == SHIPPED else pretrain
    names = {
        f"{backbone}-{number}": work.name
        for backbone in scale["warm_start"]
        for number, work in enumerate(make(backbone, params), start=1)
    }
    seal(paths.weights)
    phases(paths).forget(names)


def take_shipped(backbone: str, params: Mapping[str, Any]) -> list[Path]:
    """Unpack the weights that come with the project; no phase is trained.

    Raises:
        UserError: there are none, or they are not those of the scale's model.
    """
    import torch
    from detectron2.modeling import build_model

    from opmask.data.coco import load_manifest
    from opmask.shipped import shipped_file, unpack
    from study.runs.configs import scale_config

    paths, name = Paths.of(params), params["scale"]
    scale = params["scales"][name]
    weights, about = unpack(shipped_file(backbone))
    classes = len(load_manifest(paths.manifest).categories)
    definition = params["backbones"][backbone]
    cfg = scale_config({"mask_head": "none"}, definition, [], classes, scale["config"])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        wanted = {key: value.shape for key, value in build_model(cfg).state_dict().items()}
    counters = [key for key in wanted if key.endswith("num_batches_tracked")]  # which nothing reads
    weights |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
    given = {key: value.shape for key, value in weights.items()}
    if other := sorted(key for key in wanted if given.get(key) != wanted[key]):
        raise UserError(
            f"scales/{name}.yaml: config: the shipped weights of {backbone} are of another model "
            f"({other[0]}, {len(other)} such); with initial_weights: train it gets its own"
        )
    torch.save({"model": weights}, paths.initial(backbone))
    out = paths.pretrain / backbone
    out.mkdir(parents=True, exist_ok=True)
    # What made them is said by their own provenance; what unpacked them, by `code`.
    content = {**about, "shipped": True, "code": code_of(MODULE)}
    write_durably(out / PROVENANCE, json.dumps(content, indent=2))
    seal(out)
    return []


def pretrain(backbone: str, params: Mapping[str, Any]) -> list[Path]:
    """Train one backbone's phases, each from the one before; returns their work folders."""
    from opmask.data.coco import load_manifest
    from opmask.training import export, trainer, warm_start
    from opmask.training.hardware import hardware_here
    from study.runs.configs import warm_start_config
    from study.runs.provenance import provenance

    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    data = trainer.TrainingData(*_images(params), ())
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
    about = provenance(cfg, hardware, works, [MODULE], backbone=backbone)
    out = paths.pretrain / backbone
    export.export_training(works[-1], out, about)
    (out / WEIGHTS).rename(paths.initial(backbone))
    seal(out)
    return works


def _images(params: Mapping[str, Any]) -> tuple[Path, Path]:
    """Annotations and folder of what the warm start learns from, drawn now if need be."""
    from opmask.data.coco import load_manifest
    from opmask.miniature import build

    scale = params["scales"][params["scale"]]
    if "warm_start_scenes" not in scale:
        train = load_manifest(Paths.of(params).manifest).train
        return train.annotations, train.images
    folder = scenes_folder(MODULE, params)
    if not folder.is_dir():
        size = {"image_size": scale["data"]["image_size"], "val_images": 1, "min_val_instances": 0}
        build(folder, **scale["warm_start_scenes"], **size)
    return folder / "annotations" / "instances_train.json", folder / "train"


if __name__ == "__main__":
    run()
