"""Stage `overlap`: how much the boxes of each class overlap (paper, section 4.2), every reading.

Reads the training annotations that `data/<scale>/manifest.json` names; writes
`runs/<scale>/overlap.csv`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from opmask.data.coco import load_manifest
from pipeline import stage
from study.analysis.overlap import class_overlap
from study.spec.params import load_params


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.overlap", description=__doc__)
    parser.parse_args(argv)
    scale = load_params()["scale"]
    manifest = load_manifest(Path("data") / scale / "manifest.json")
    folder = Path("runs") / scale
    folder.mkdir(parents=True, exist_ok=True)
    class_overlap(manifest.train.annotations).to_csv(
        folder / "overlap.csv", index=False, float_format="%.6f"
    )


if __name__ == "__main__":
    run()
