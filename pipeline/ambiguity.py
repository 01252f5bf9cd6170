"""Stage `ambiguity`: OPMask's gain in ambiguous against clean RoIs, the paper's explanation.

Reads `detections.json` and `oracle.csv.gz` of each run in `runs/<scale>/evaluate/`; writes
`runs/<scale>/ambiguity.csv` (instances × runs), `reports/<scale>/tables/ambiguity.{csv,md}` and
`reports/<scale>/figures/ambiguity.*`.
"""

import json
from dataclasses import asdict

import pandas as pd
from tqdm import tqdm

from opmask.data.coco import load_json, load_manifest
from opmask.data.splits import resolve
from opmask.integrity import verified
from pipeline.reporting import Scale, report_stage
from study.analysis import ambiguity, oracle
from study.analysis.ambiguity_effect import METHODS, bin_table, effect_table
from study.figures.ambiguity import ambiguity_figure
from study.labels import DIRECTIONS
from study.report.render import write_table
from study.report.views import ambiguity as view
from study.spec.paths import DETECTIONS

_AP = ["backbone", "supervised", "method", "seed", "group", "AP"]


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths, bootstrap = scale.params, scale.paths, scale.params["bootstrap"]
    threshold, manifest = params["ambiguity"]["threshold"], load_manifest(paths.manifest)
    data = load_json(manifest.val.annotations)
    objects = ambiguity.read_objects(data)
    frames, ap = [], pd.DataFrame(columns=_AP)
    compared = {  # a configuration under two names once
        (one.configuration, one.seed): one
        for one in scale.scheduled
        if one.method in METHODS and one.supervised in DIRECTIONS
    }
    for one in tqdm(compared.values(), desc="ambiguity", disable=None):
        path = paths.evaluate / one.key / DETECTIONS
        if path.is_file():
            detections = json.loads(verified(path).read_text())
            novel = resolve(one.supervised, manifest.categories, params["splits"]).novel
            boxes = oracle.read(path.parent)
            frame = ambiguity.describe(
                one, objects, detections, manifest.categories, novel, threshold, boxes.get("iou")
            )
            frames.append(frame)
            rows = ambiguity.group_ap(data, frame, detections)
            ap = pd.concat([ap if len(ap) else None, rows.assign(**asdict(one))[_AP]])
    frame = pd.concat(frames) if frames else ambiguity.empty_frame(objects)
    frame.round(4).to_csv(paths.ambiguity, index=False)

    image_ids = sorted(image["id"] for image in data["images"])
    table = effect_table(frame, ap, image_ids, **bootstrap).round(3)
    blocks = view.blocks(table, threshold)
    write_table(paths.tables / "ambiguity.csv", table, "The gain in ambiguous RoIs", blocks)
    ambiguity_figure(bin_table(frame, image_ids, **bootstrap), threshold, paths.figures)


if __name__ == "__main__":
    run()
