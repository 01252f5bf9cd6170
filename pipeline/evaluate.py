"""Stage `evaluate`: one pass over the validation images, from which every table derives."""

import argparse
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.coco import Manifest, load_manifest
from opmask.data.splits import resolve
from opmask.evaluation.coco_ap import evaluate, subset_summary
from opmask.integrity import damage, empty_folder, publish, require_whole
from pipeline import RUN_HELP, stage
from study.runs.ahead import detections_file
from study.runs.recorded import clear_recorded, work_of
from study.spec.code import code_of
from study.spec.params import load_params
from study.spec.paths import CONFIG, DETECTIONS, LOG, PER_CLASS, PROVENANCE, WEIGHTS, Paths, matches
from study.spec.results import describe, read_json
from study.spec.run import Run, load_specification


@stage
def run(argv: Sequence[str]) -> None:
    """Detect with a trained run and write per-class AP, matches and headline metrics."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    key = parser.parse_args(argv).run
    params = load_params()
    clear_recorded(params)
    paths = Paths.of(params)

    spec = load_specification(paths.planned(key))
    manifest = load_manifest(paths.manifest)
    trained, out = paths.train / key, paths.evaluate / key
    require_whole(trained, [WEIGHTS, CONFIG], remedy=f"dvc repro train@{key}")
    found = detected_ahead(key, paths)
    found = found or detect(trained, manifest, params["hardware"], key)
    detections = found["detections"]
    partial = empty_folder(out.with_name(out.name + ".partial"))
    (partial / DETECTIONS).write_text(json.dumps(detections))
    split = resolve(spec["run"]["supervised"], manifest.categories, spec["splits"])
    masks = spec["method"]["mask_head"] != "none"
    table = describe(per_class(detections, manifest, partial, masks), Run(**spec["run"]), split)
    table.to_csv(partial / PER_CLASS, index=False)
    (partial / LOG).write_text(json.dumps(headline(table), indent=2))
    counts = {"images": manifest.val.counts["images"], "detections": len(detections)}
    about = {**counts, "seconds": found["seconds"], "code": code_of("pipeline.evaluate")}
    (partial / PROVENANCE).write_text(json.dumps(about, indent=2))
    publish(partial, out)
    print(json.dumps(headline(table), indent=2))


def detected_ahead(key: str, paths: Paths) -> dict[str, Any] | None:
    """What stage `sweep` detected in a work folder with the very run that is published."""
    work = work_of(key, paths)
    ahead = detections_file(work) if work else None
    if ahead is None or not ahead.is_file():
        return None
    trouble = damage(ahead)
    if trouble:
        warnings.warn(f"{ahead} is not used: {trouble}; the run detects again", stacklevel=2)
        return None
    return read_json(ahead)


def detect(trained: Path, manifest: Manifest, hardware: Mapping, key: str) -> dict[str, Any]:
    """`detections` of a trained run and `seconds` taken. torch is imported only here."""
    from opmask.evaluation import inference
    from opmask.model.config import load_config
    from opmask.training.hardware import hardware_here

    cfg = load_config(trained / CONFIG)
    here = hardware_here(hardware)
    cfg.MODEL.DEVICE = here.device
    return inference.detect_run(cfg, trained / WEIGHTS, manifest, here.workers, key)


def per_class(detections: list[dict], manifest: Manifest, out: Path, masks: bool) -> pd.DataFrame:
    """Per-class AP of boxes and, of methods with a mask head, of masks; matches go to `out`."""
    tables = []
    for task in ("bbox", "segm"):
        found = detections if masks or task == "bbox" else []
        result = evaluate(manifest.val.annotations, found, task=task)
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


if __name__ == "__main__":
    run()
