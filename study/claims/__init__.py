"""The claims ledger: every checkable sentence of the paper, graded by code.

`claims.yaml` declares the claims, section by section, each with the evidence that it is tested on
(`evidence.yaml`: rows of the tables of `reports/<scale>/`, read by `sources`, or what a function of
`evidence` makes of them or of the paper's own numbers) and the rule that grades it (`rules`).
`conditions` says what a scale cannot test, `ledger` grades them and corrects for their number, and
`findings` says what is wrong or unclear in the paper.

`coco_overlap.csv`: person and cat, the paper's examples of classes with high mean IoU, among the 80
classes of COCO, by every reading of `study.analysis.overlap`, on all 849,942 boxes of train2017
that are no crowds: images, reading, category, rank (1: largest mean IoU), mean_iou, classes.
"""

from importlib.resources import files
from typing import Any

import yaml


def load(name: str) -> Any:
    """The content of one of this package's yaml files, e.g. "claims"."""
    return yaml.safe_load(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
