"""Stage `cam`: the class activation maps of the trained runs in Table 2 as masks.

Writes `runs/<scale>/cam/<run>-<seed>/`: `per_class.csv` and `matches_segm.npz` as stage `evaluate`
does; `refined.csv`, AP of maps made anew in the refined box, and `ellipse.csv`, of ellipses in the
same detections; `oracle.csv.gz`, a row an object: every threshold, in true boxes; and `runs.json`,
which runs these are.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from opmask.data.coco import Manifest, load_json, load_manifest
from opmask.data.splits import resolve
from opmask.integrity import verified
from pipeline import stage
from pipeline.evaluate import write_oracle
from study.runs.measured import Measurement, collect
from study.runs.store import measurements
from study.spec.params import load_params
from study.spec.paths import CONFIG, PER_CLASS, WEIGHTS, Paths, matches
from study.spec.results import describe
from study.spec.run import Run, all_runs, components
from study.tables.table2_rows import PER_CLASS_OF, is_row


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
    """What a trained run's maps are worth as masks, into `folder`. torch is imported only here."""
    from opmask.evaluation import cam_masks
    from opmask.evaluation.coco_ap import evaluate
    from opmask.model.config import load_config
    from opmask.training.hardware import hardware_here

    cfg = cam_masks.cam_config(load_config(verified(trained / CONFIG)), params["cam"]["threshold"])
    here = hardware_here(params["hardware"])
    cfg.MODEL.DEVICE = here.device
    source = (cfg, trained / WEIGHTS, manifest, here.workers)
    found = cam_masks.detect_maps(*source, f"{one.key} CAM")
    refined = [{**result, "segmentation": result["refined"]} for result in found]
    ellipse = cam_masks.as_ellipses(found, load_json(manifest.val.annotations)["images"])
    split = resolve(one.supervised, manifest.categories, params["splits"])
    for file, results in zip(PER_CLASS_OF, (found, refined, ellipse), strict=True):
        result = evaluate(manifest.val.annotations, results, task="segm")
        if file == PER_CLASS:
            result.matches.save(folder / matches("segm"))
        describe(result.per_class(), one, split).to_csv(folder / file, index=False)
    in_boxes = cam_masks.measure_maps(*source, f"{one.key} CAM, true boxes")
    write_oracle(in_boxes, folder)


if __name__ == "__main__":
    run()
