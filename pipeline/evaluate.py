"""Stage `evaluate`: one pass over the validation images a run, from which every table derives.

Writes `runs/<scale>/evaluate/<run>-<seed>/`: detections, per-class AP, matches, `metrics.json`;
and `runs.json`, which runs these are.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.coco import Manifest, load_manifest
from opmask.data.splits import resolve
from opmask.evaluation.coco_ap import evaluate, read_ground_truth, subset_summary
from opmask.integrity import require_whole, verified
from pipeline import stage
from study.runs.measured import Measurement, collect
from study.runs.store import measurements
from study.spec.code import code_of
from study.spec.params import load_params
from study.spec.paths import CONFIG, DETECTIONS, LOG, PER_CLASS, PROVENANCE, WEIGHTS, Paths, matches
from study.spec.results import describe, read_json
from study.spec.run import Run, all_runs, load_specification

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
    collect(wanted, paths.evaluate, measurements(paths, "evaluate"), params["hardware"])
    for key in keys:
        print(in_short(key, read_json(paths.evaluate / key / LOG)))


def measurement(key: str, params: Mapping[str, Any], trained: Path) -> Measurement:
    """Of the run `key`, which lies in the folder `trained`."""
    paths = Paths.of(params)
    spec = load_specification(paths.planned(key))
    settings = {name: spec[name] for name in ("run", "splits", "method")}
    files = [trained / WEIGHTS, trained / CONFIG, paths.manifest]
    measure = partial(evaluate_run, key, settings, params, trained)
    return Measurement(key, MODULE, settings, files, measure)


def evaluate_run(
    key: str, spec: Mapping[str, Any], params: Mapping[str, Any], trained: Path, folder: Path
) -> None:
    """Detect with the run in `trained` and write what the stage publishes of it into `folder`."""
    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    found = detect(trained, manifest, params["hardware"], key)
    detections = found["detections"]
    (folder / DETECTIONS).write_text(json.dumps(detections))
    split = resolve(spec["run"]["supervised"], manifest.categories, spec["splits"])
    masks = spec["method"]["mask_head"] != "none"
    table = describe(per_class(detections, manifest, folder, masks), Run(**spec["run"]), split)
    table.to_csv(folder / PER_CLASS, index=False)
    (folder / LOG).write_text(json.dumps(headline(table), indent=2))
    counts = {"images": manifest.val.counts["images"], "detections": len(detections)}
    about = {**counts, "seconds": found["seconds"], "code": code_of(MODULE)}
    (folder / PROVENANCE).write_text(json.dumps(about, indent=2))


def detect(trained: Path, manifest: Manifest, hardware: Mapping, key: str) -> dict[str, Any]:
    """`detections` of a trained run and `seconds` taken. torch is imported only here."""
    from opmask.evaluation import inference
    from opmask.model.config import load_config
    from opmask.training.hardware import hardware_here

    cfg = load_config(verified(trained / CONFIG))
    here = hardware_here(hardware)
    cfg.MODEL.DEVICE = here.device
    return inference.detect_run(cfg, trained / WEIGHTS, manifest, here.workers, key)


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
