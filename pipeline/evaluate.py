"""Stage `evaluate`: one pass over the validation images, from which every table derives."""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.data.coco import Manifest, load_manifest
from opmask.data.splits import resolve
from opmask.errors import main
from opmask.evaluation.coco_ap import evaluate, subset_summary
from opmask.evaluation.results import describe, read_json
from opmask.planning.params import load_params
from opmask.planning.plan import Run, load_specification
from opmask.training.work import detections_file
from pipeline import RUN_HELP


@main
def run(argv: Sequence[str]) -> None:
    """Detect with a trained run and write per-class AP, matches and headline metrics."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    key = parser.parse_args(argv).run
    params = load_params()
    root = Path("runs", params["scale"])

    spec = load_specification(root / "plan" / f"{key}.yaml")
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    found = detect(root / "train" / key, manifest, params["hardware"], key)
    detections = found["detections"]
    out = root / "evaluate" / key
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "detections.json").write_text(json.dumps(detections))
    split = resolve(spec["run"]["supervised"], manifest.categories, spec["splits"])
    masks = spec["method"]["mask_head"]
    table = describe(per_class(detections, manifest, partial, masks), Run(**spec["run"]), split)
    table.to_csv(partial / "per_class.csv", index=False)
    (partial / "metrics.json").write_text(json.dumps(headline(table), indent=2))
    counts = {"images": manifest.val.counts["images"], "detections": len(detections)}
    about = {**counts, "seconds": found["seconds"]}
    (partial / "provenance.json").write_text(json.dumps(about, indent=2))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    shutil.rmtree(work_of(root / "train" / key), ignore_errors=True)
    print(json.dumps(headline(table), indent=2))


def detect(trained: Path, manifest: Manifest, hardware: Mapping, key: str) -> dict[str, Any]:
    """`detections` of a trained run and `seconds` taken; those made ahead by stage `sweep`, if so.

    torch and detectron2, seconds of start-up, are imported only if needed.
    """
    ahead = detections_file(work_of(trained))
    if ahead.is_file():
        return read_json(ahead)
    from opmask.config import load_config
    from opmask.evaluation import inference
    from opmask.training import jobs, trainer

    cfg = load_config(trained / "config.yaml")
    weights, workers = trained / trainer.FINAL, jobs.hardware(hardware).workers
    return inference.detect_run(cfg, weights, manifest, workers, key)


def work_of(trained: Path) -> Path:
    """The work folder that a published run was trained in."""
    return Path("work", read_json(trained / "provenance.json")["work"])


def per_class(detections: list[dict], manifest: Manifest, out: Path, masks: bool) -> pd.DataFrame:
    """Per-class AP of boxes and, of methods with a mask head, of masks; matches go to `out`."""
    tables = []
    for task in ("bbox", "segm"):
        found = detections if masks or task == "bbox" else []
        result = evaluate(manifest.val.annotations, found, task=task)
        result.matches.save(out / f"matches_{task}.npz")
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
