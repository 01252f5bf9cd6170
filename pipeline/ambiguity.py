"""Stage `ambiguity`: OPMask's gain in ambiguous against clean RoIs, the paper's explanation.

Reads `runs/<scale>/evaluate/*/detections.json`; writes `runs/<scale>/ambiguity.csv` (instances ×
runs), `reports/<scale>/tables/ambiguity.{csv,md}` and `reports/<scale>/figures/ambiguity.*`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from opmask.data.coco import load_json, load_manifest
from opmask.data.splits import resolve
from opmask.integrity import verified
from pipeline import stage
from study.analysis import ambiguity
from study.analysis.ambiguity_effect import METHODS, bin_table, effect_table
from study.figures.ambiguity import ambiguity_figure
from study.labels import DIRECTIONS
from study.report.render import write_page
from study.report.views import ambiguity as view
from study.spec.params import load_params
from study.spec.paths import DETECTIONS, Paths
from study.spec.run import Run, all_runs

_AP = ["backbone", "supervised", "method", "seed", "group", "AP"]


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ambiguity", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths, threshold = Paths.of(params), params["ambiguity"]["threshold"]
    manifest = load_manifest(paths.manifest)
    data = load_json(manifest.val.annotations)
    objects = ambiguity.read_objects(data)
    frames, ap = [], pd.DataFrame(columns=_AP)
    for one in tqdm(compared_runs(params), desc="ambiguity", disable=None):
        detections = read_detections(one, paths.evaluate)
        if detections is not None:
            novel = resolve(one.supervised, manifest.categories, params["splits"]).novel
            frame = ambiguity.describe(
                one, objects, detections, manifest.categories, novel, threshold
            )
            frames.append(frame)
            rows = ambiguity.group_ap(data, frame, detections)
            ap = pd.concat([ap if len(ap) else None, rows.assign(**asdict(one))[_AP]])
    frame = pd.concat(frames) if frames else ambiguity.empty_frame(objects)
    frame.round(4).to_csv(paths.ambiguity, index=False)
    write_report(frame, ap, sorted(image["id"] for image in data["images"]), params, threshold)


def compared_runs(params: Mapping[str, Any]) -> list[Run]:
    """The runs of the comparison: global schedule, the paper's two directions."""
    schedule = str(params["schedule"])
    found = {
        (one.method, one.backbone, one.supervised, one.seed): one
        for one in all_runs(params)
        if one.schedule == schedule and one.method in METHODS and one.supervised in DIRECTIONS
    }
    return list(found.values())  # a configuration under two names once


def read_detections(one: Run, evaluated: Path) -> list[dict[str, Any]] | None:
    """The run's COCO results, or None if it was not made."""
    path = evaluated / one.key / DETECTIONS
    return json.loads(verified(path).read_text()) if path.is_file() else None


def write_report(
    frame: pd.DataFrame,
    ap: pd.DataFrame,
    image_ids: Sequence[int],
    params: Mapping[str, Any],
    threshold: float,
) -> None:
    """Tables and figure below `reports/<scale>/`."""
    paths = Paths.of(params)
    table = effect_table(frame, ap, image_ids, **params["bootstrap"]).round(3)
    paths.tables.mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.tables / "ambiguity.csv", index=False)
    blocks = view.blocks(table, threshold)
    write_page(paths.tables / "ambiguity.md", "The gain in ambiguous RoIs", blocks)
    bins = bin_table(frame, image_ids, **params["bootstrap"])
    ambiguity_figure(bins, threshold, paths.figures)


if __name__ == "__main__":
    run()
