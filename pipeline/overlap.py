"""Stage `overlap`: how much the boxes of each class overlap (paper, section 4.2), every reading.

Reads the training annotations that `data/<scale>/manifest.json` names; writes
`runs/<scale>/overlap.csv`.
"""

from opmask.data.coco import load_manifest
from pipeline.reporting import Scale, report_stage
from study.analysis.overlap import class_overlap


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    table = class_overlap(load_manifest(scale.paths.manifest).train.annotations)
    scale.paths.runs.mkdir(parents=True, exist_ok=True)
    table.to_csv(scale.paths.overlap, index=False, float_format="%.6f")


if __name__ == "__main__":
    run()
