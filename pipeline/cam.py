"""Stage `cam`: mask AP of the class activation maps of the trained runs in Table 2.

Writes `runs/<scale>/cam/<run>-<seed>/`: `per_class.csv` and `matches_segm.npz` as stage `evaluate`
does; and `runs.json`, which runs these are.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from opmask.data.coco import Manifest, load_manifest
from opmask.integrity import verified
from pipeline import stage
from study.runs.measured import Measurement, collect
from study.runs.store import measurements
from study.spec.params import load_params
from study.spec.paths import CONFIG, PER_CLASS, WEIGHTS, Paths, matches
from study.spec.run import Run, all_runs, components
from study.tables.table2_rows import is_row


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.cam", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    wanted = [
        Measurement(
            one.key,
            ["pipeline.cam", *components(params["methods"][one.method])],
            {"run": asdict(one), "splits": params["splits"], "cam": params["cam"]},
            [*(paths.train / one.key / name for name in (WEIGHTS, CONFIG)), paths.manifest],
            partial(measure, one, paths.train / one.key, manifest, params),
        )
        for one in all_runs(params)
        if is_row(one, str(params["schedule"]))
    ]
    collect(wanted, paths.cam, measurements(paths, "cam"), params["hardware"])


def measure(
    one: Run, trained: Path, manifest: Manifest, params: Mapping[str, Any], folder: Path
) -> None:
    """Detect with a trained run whose masks are its maps, and evaluate them into `folder`."""
    from opmask.data.splits import resolve
    from opmask.evaluation.coco_ap import evaluate
    from study.spec.results import describe

    found = detect(trained, manifest, params, f"{one.key} CAM")
    split = resolve(one.supervised, manifest.categories, params["splits"])
    result = evaluate(manifest.val.annotations, found, task="segm")
    result.matches.save(folder / matches("segm"))
    describe(result.per_class(), one, split).to_csv(folder / PER_CLASS, index=False)


def detect(
    trained: Path, manifest: Manifest, params: Mapping[str, Any], description: str
) -> list[dict]:
    """COCO results of a trained run whose masks are its class activation maps."""
    from opmask.evaluation import inference
    from opmask.evaluation.cam_masks import cam_config
    from opmask.model.config import load_config
    from opmask.training.hardware import hardware_here

    cfg = load_config(verified(trained / CONFIG))
    cfg = cam_config(cfg, params["cam"]["threshold"])
    here = hardware_here(params["hardware"])
    cfg.MODEL.DEVICE = here.device
    found = inference.detect_run(cfg, trained / WEIGHTS, manifest, here.workers, description)
    return found["detections"]


if __name__ == "__main__":
    run()
