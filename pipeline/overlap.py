"""Stage `overlap`: how much the boxes of each class overlap (paper, section 4.2), every reading.

Reads the training annotations that `data/<scale>/manifest.json` names; writes
`runs/<scale>/overlap.csv`.
"""

import argparse
from collections.abc import Sequence

from opmask.data.coco import load_manifest
from pipeline import stage
from study.analysis.overlap import class_overlap
from study.spec.params import load_params
from study.spec.paths import Paths


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.overlap", description=__doc__)
    parser.parse_args(argv)
    paths = Paths.of(load_params())
    manifest = load_manifest(paths.manifest)
    paths.overlap.parent.mkdir(parents=True, exist_ok=True)
    table = class_overlap(manifest.train.annotations)
    table.to_csv(paths.overlap, index=False, float_format="%.6f")


if __name__ == "__main__":
    run()
