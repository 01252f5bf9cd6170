"""Stage `cam`: mask AP of the class activation maps of one trained run, for Table 2.

Writes `runs/<scale>/cam/<run>-<seed>/`: `per_class.csv` and `matches_segm.npz` as stage `evaluate`
does. Of a run that is no row of Table 2 the folder stays empty.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opmask.data.coco import Manifest, load_manifest
from opmask.errors import main
from opmask.planning.params import load_params
from opmask.planning.plan import Run, load_specification
from opmask.tables.table2 import is_row
from pipeline import RUN_HELP


@main
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.cam", description=__doc__)
    parser.add_argument("run", help=RUN_HELP)
    key = parser.parse_args(argv).run
    params = load_params()
    root = Path("runs", params["scale"])
    spec = load_specification(root / "plan" / f"{key}.yaml")
    out = root / "cam" / key
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if is_row(Run(**spec["run"]), str(params["schedule"])):
        manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
        found = detect(root / "train" / key, manifest, params, key)
        write(found, manifest, spec, partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def detect(trained: Path, manifest: Manifest, params: Mapping[str, Any], key: str) -> list[dict]:
    """COCO results of a trained run whose masks are its class activation maps."""
    from detectron2.config import CfgNode

    from opmask.evaluation import inference
    from opmask.evaluation.cam_masks import cam_config
    from opmask.training import jobs, trainer

    cfg = CfgNode.load_cfg((trained / "config.yaml").read_text())
    cfg = cam_config(cfg, params["cam"]["threshold"])
    workers = jobs.hardware(params["hardware"]).workers
    description = f"{key} CAM"
    found = inference.detect_run(cfg, trained / trainer.FINAL, manifest, workers, description)
    return found["detections"]


def write(found: list[dict], manifest: Manifest, spec: Mapping[str, Any], folder: Path) -> None:
    """Evaluates masks as stage `evaluate` does."""
    from opmask.data.splits import resolve
    from opmask.evaluation.coco_ap import evaluate
    from opmask.evaluation.results import describe

    split = resolve(spec["run"]["supervised"], manifest.categories, spec["splits"])
    result = evaluate(manifest.val.annotations, found, task="segm")
    result.matches.save(folder / "matches_segm.npz")
    table = describe(result.per_class(), Run(**spec["run"]), split)
    table.to_csv(folder / "per_class.csv", index=False)


if __name__ == "__main__":
    run()
