"""Stage `evaluate`: one pass over the validation images, from which every table derives."""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.coco import Manifest, load_manifest, read_json
from opmask.errors import main
from opmask.evaluation import evaluate, subset_summary
from opmask.params import load_params
from opmask.plan import Run
from opmask.splits import Split, resolve


@main
def run(argv: Sequence[str]) -> None:
    """Detect with a trained run and write per-class AP, matches and headline metrics."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate", description=__doc__)
    parser.add_argument(
        "run", help="METHOD-BACKBONE-SUPERVISED[-SCHEDULE]-SEED, e.g. opmask-R50-voc-0"
    )
    key = parser.parse_args(argv).run
    params = load_params()
    root = Path("runs", params["scale"])

    from opmask import jobs

    spec = jobs.load_specification(root / "plan" / f"{key}.yaml")
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    started = time.monotonic()
    detections = detect(
        root / "train" / key, manifest, jobs.hardware(params["hardware"]).workers, key
    )
    seconds = round(time.monotonic() - started, 1)
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
    (partial / "provenance.json").write_text(json.dumps({**counts, "seconds": seconds}, indent=2))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    print(json.dumps(headline(table), indent=2))


def detect(
    trained: Path, manifest: Manifest, workers: int, description: str
) -> list[dict[str, Any]]:
    """COCO results of a trained run on the validation images."""
    from detectron2.config import CfgNode

    from opmask import inference, training

    cfg = CfgNode.load_cfg((trained / "config.yaml").read_text())
    model = inference.load_model(cfg, trained / training.FINAL)
    images = read_json(manifest.val.annotations)["images"]
    ids = [c["id"] for c in manifest.categories]
    return inference.detect(
        model, cfg, images, manifest.val.images, ids, workers=workers, description=description
    )


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


def describe(table: pd.DataFrame, run: Run, split: Split) -> pd.DataFrame:
    """`table` with the run's fields in front and each class's supervision."""
    table = table.assign(
        supervision=["novel" if c in split.novel else "supervised" for c in table["category"]]
    )
    fields = {
        "run": run.name,
        "method": run.method,
        "backbone": run.backbone,
        "supervised": run.supervised,
        "schedule": run.schedule,
        "seed": run.seed,
    }
    for position, (name, value) in enumerate(fields.items()):
        table.insert(position, name, value)
    return table


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
