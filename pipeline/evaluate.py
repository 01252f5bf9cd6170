"""Stage `evaluate`: detections in the validation images, and masks in their true boxes, a run.

Writes `runs/<scale>/evaluate/<run>-<seed>/`: detections, per-class AP, matches, `metrics.json` and,
of runs with a mask head, `oracle.csv.gz`, a row an object; `floors-<supervised>/`, the same of
masks that need no model; and `runs.json`, which runs these are.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.coco import Manifest, load_json, load_manifest, load_training_dicts
from opmask.data.splits import resolve
from opmask.evaluation.coco_ap import evaluate, read_ground_truth, subset_summary
from opmask.integrity import require_whole, verified
from pipeline import stage
from study.runs.measured import Measurement, collect
from study.runs.store import measurements
from study.spec.code import code_of
from study.spec.params import load_params
from study.spec.paths import (
    CONFIG,
    DETECTIONS,
    LOG,
    ORACLE,
    PER_CLASS,
    PROVENANCE,
    WEIGHTS,
    Paths,
    floors,
    matches,
)
from study.spec.results import describe, read_json
from study.spec.run import Run, all_runs, components, load_specification

MODULE = "pipeline.evaluate"


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    keys = [one.key for one in all_runs(params)]
    for key in keys:
        remedy = f"dvc repro, or dvc checkout {paths.train}"
        require_whole(paths.train / key, [WEIGHTS, CONFIG], remedy=remedy)
    wanted = [measurement(key, params, paths.train / key) for key in keys]
    everything = [*wanted, *_floors(wanted, params)]
    collect(everything, paths.evaluate, measurements(paths, "evaluate"), params["hardware"])
    for key in keys:
        print(in_short(key, read_json(paths.evaluate / key / LOG)))


def measurement(key: str, params: Mapping[str, Any], trained: Path) -> Measurement:
    """Of the run `key`, which lies in the folder `trained`."""
    paths = Paths.of(params)
    spec = load_specification(paths.planned(key))
    settings = {name: spec[name] for name in ("run", "splits", "method")}
    settings["mask_threshold"] = mask_threshold(params)
    files = [trained / WEIGHTS, trained / CONFIG, paths.manifest]
    measure = partial(evaluate_run, key, settings, params, trained)
    return Measurement(key, [MODULE, *components(spec["method"])], settings, files, measure)


def _floors(runs: Sequence[Measurement], params: Mapping[str, Any]) -> list[Measurement]:
    """One for each supervised set of which a run has a mask head."""
    paths = Paths.of(params)
    found = {}
    for spec in (one.settings for one in runs):
        if has_masks(spec):
            settings = {"supervised": spec["run"]["supervised"], "splits": spec["splits"]}
            key = floors(settings["supervised"])
            measure = partial(measure_floors, settings, paths.manifest)
            found[key] = Measurement(key, [MODULE], settings, [paths.manifest], measure)
    return list(found.values())


def measure_floors(settings: Mapping[str, Any], manifest_file: Path, folder: Path) -> None:
    """Write what masks that need no model reach in the true boxes into `folder`."""
    from opmask.evaluation.floors import mean_mask, measure_floors

    manifest = load_manifest(manifest_file)
    split = resolve(settings["supervised"], manifest.categories, settings["splits"])
    taught = [c["id"] for c in manifest.categories if c["name"] in split.supervised]
    dicts, _ = load_training_dicts(manifest.train.annotations, manifest.train.images, taught)
    write_oracle(measure_floors(load_json(manifest.val.annotations), mean_mask(dicts)), folder)


def write_oracle(table: pd.DataFrame, folder: Path) -> None:
    """A table of objects, the same bytes whenever it is written."""
    how: Any = {"method": "gzip", "mtime": 0}
    table.to_csv(folder / ORACLE, index=False, float_format="%.6f", compression=how)


def has_masks(spec: Mapping[str, Any]) -> bool:
    """Whether the run of a specification has a mask head."""
    return spec["method"]["mask_head"] != "none"


def evaluate_run(
    key: str, spec: Mapping[str, Any], params: Mapping[str, Any], trained: Path, folder: Path
) -> None:
    """Detect with the run in `trained` and write what the stage publishes of it into `folder`.

    torch is imported only here.
    """
    from opmask.evaluation import inference, oracle

    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    cfg, workers = config(trained, params["hardware"])
    masks, threshold, started = has_masks(spec), spec["mask_threshold"], time.monotonic()
    truth, ids = load_json(manifest.val.annotations), [c["id"] for c in manifest.categories]
    model = inference.load_model(cfg, trained / WEIGHTS, threshold)
    data = manifest.val.images, ids
    detections = inference.detect(
        model, cfg, truth["images"], *data, workers=workers, description=key
    )
    seconds = round(time.monotonic() - started, 1)
    (folder / DETECTIONS).write_text(json.dumps(detections))
    split = resolve(spec["run"]["supervised"], manifest.categories, spec["splits"])
    if masks:
        name = f"{key}, true boxes"
        in_boxes = oracle.measure_in_true_boxes(
            model, cfg, truth, *data, workers=workers, description=name
        )
        write_oracle(in_boxes, folder)
    table = describe(per_class(detections, manifest, folder, masks), Run(**spec["run"]), split)
    table.to_csv(folder / PER_CLASS, index=False)
    (folder / LOG).write_text(json.dumps(headline(table), indent=2))
    about = {
        "images": manifest.val.counts["images"],
        "detections": len(detections),
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        **({"mask_threshold": threshold} if masks else {}),
        "seconds": seconds,
        "code": code_of(MODULE, *components(spec["method"])),
    }
    (folder / PROVENANCE).write_text(json.dumps(about, indent=2))


def mask_threshold(params: Mapping[str, Any]) -> float:
    """Of the scale: the probability from which a pixel is in a mask, the paper's 0.5 if not said.

    Below it a mask is larger. Where masks are unsure, the threshold of the highest expected IoU is
    below the one of the fewest wrong pixels: a deviation, and the same for all methods.
    """
    return float(params["scales"][params["scale"]].get("mask_threshold", 0.5))


def config(trained: Path, hardware: Mapping[str, Any]) -> tuple[Any, int]:
    """The configuration of a trained run for this machine, and processes that load images."""
    from opmask.model.config import load_config
    from opmask.training.hardware import hardware_here

    cfg, here = load_config(verified(trained / CONFIG)), hardware_here(hardware)
    cfg.MODEL.DEVICE = here.device
    return cfg, here.workers


def per_class(detections: list[dict], manifest: Manifest, out: Path, masks: bool) -> pd.DataFrame:
    """Per-class AP of boxes and, of methods with a mask head, of masks; matches go to `out`."""
    tables, truth = [], read_ground_truth(manifest.val.annotations)
    for task in ("bbox", "segm"):
        found = detections if masks or task == "bbox" else []
        result = evaluate(truth, found, task=task)
        result.matches.save(out / matches(task))
        if masks or task == "bbox":
            tables.append(result.per_class())
    return pd.concat(tables)


def headline(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """AP and AP50, percent, of novel, supervised and all classes, for boxes and masks."""
    result: dict[str, dict[str, float]] = {}
    for task, rows in table.groupby("task"):
        groups = dict(list(rows.groupby("supervision"))) | {"all": rows}
        for group, members in groups.items():
            summary = subset_summary(members, members["category_id"])
            for metric in ("AP", "AP50"):
                name = f"{'mask' if task == 'segm' else 'box'}_{metric}"
                result.setdefault(group, {})[name] = round(summary[metric], 3)
    return result


def in_short(key: str, headlines: Mapping[str, Mapping[str, float]]) -> str:
    """`opmask-R50-voc-0: novel classes: mask AP 10.4, box AP50 33.1`; of all if none is novel."""
    group = "novel" if "novel" in headlines else "all"
    values = {name: headlines[group].get(name, math.nan) for name in ("mask_AP", "box_AP50")}
    shown = [f"{name.replace('_', ' ')} {x:.1f}" for name, x in values.items() if x == x]
    return f"{key}: {group} classes: {', '.join(shown) or 'no object to find'}"


if __name__ == "__main__":
    run()
