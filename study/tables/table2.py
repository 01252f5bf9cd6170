"""Table 2 of the paper (section 4.4): the class activation map itself as the mask.

OPMask's prior (OMP) is such a map whose features mask gradients have shaped; those of a Faster and
of a Mask R-CNN with the same box head are the plain ones. Masks and their AP come from stage `cam`
(`opmask.evaluation.cam_masks`). The paper argues from three differences, which it does not test;
here they have paired bootstrap intervals.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from opmask.data.splits import VOC_CLASSES
from study import paper
from study.analysis.resampling import Resampler
from study.spec.results import read_one, read_per_class
from study.spec.run import Run
from study.tables.cells import CELL, as_columns, by_seed, cell, difference
from study.tables.table2_rows import BACKBONE, METHODS

SUBSETS = {"all": "all", "voc": "voc", "nonvoc": "non-voc"}  # of classes, as the paper has them
METRICS = ["AP", "AP50"]
# (method, supervised) minus (method, supervised); Faster R-CNN gets no masks and is trained once
CONTRASTS = [
    ((a, supervised), (b, "all" if b == "fasterrcnn" else supervised))
    for a, b in (("opmask", "maskrcnn"), ("opmask", "fasterrcnn"), ("maskrcnn", "fasterrcnn"))
    for supervised in SUBSETS
]
_INDEX = ["method", "supervised", "classes"]
_KEYS = ["method", "supervised", "minus_method", "minus_supervised", "classes", "metric"]


def read_cam(cam_dir: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Per-class mask AP of the class activation maps of the runs that stage `cam` evaluated.

    Columns and errors as of `results.read_per_class`.
    """
    files = {run: cam_dir / run.key / "per_class.csv" for run in runs}
    found = [read_one(path, run) for run, path in files.items() if path.is_file()]
    configuration = ["method", "backbone", "supervised", "schedule", "seed", "category_id"]
    return pd.concat(found or [read_per_class(cam_dir, [])]).drop_duplicates(configuration)


def table2(per_class: pd.DataFrame, cam_dir: Path, *, resamples: int, seed: int) -> pd.DataFrame:
    """Table 2 as a tidy frame: one row a number, then one a difference of two.

    Args:
        per_class: of `read_cam`.
        cam_dir: `runs/<scale>/cam`, with `matches_segm.npz` of every run in `per_class`.
        resamples, seed: of the bootstrap over validation images.

    Returns:
        Columns: method (fasterrcnn | maskrcnn | opmask), supervised (masks in training: all | voc |
        nonvoc), minus_method and minus_supervised (empty but for a difference), classes (tested on:
        all | voc | nonvoc), metric (AP | AP50), and `cells.CELL`. AP in percent.
    """
    published = _published()
    rows = []
    for method, supervised in dict.fromkeys(key[:2] for key in published.index):
        seeds = by_seed(_rows(per_class, (method, supervised), "all")).index
        for classes, metric in product(SUBSETS, METRICS):
            key = (method, supervised, "", "", classes, metric)
            found = by_seed(_rows(per_class, (method, supervised), classes), metric)
            found = found.reindex(seeds)  # data without such classes was run all the same
            number = published.loc[(method, supervised, classes), metric]
            rows.append(dict(zip(_KEYS, key, strict=True)) | as_columns(cell(found, number)))
    resampler = Resampler(cam_dir, per_class, resamples=resamples, seed=seed)
    for a, b in tqdm(CONTRASTS, desc="table 2: bootstrap", disable=None):
        name_a, name_b = (f"{method}-{BACKBONE}-{supervised}" for method, supervised in (a, b))
        for classes, metric in product(SUBSETS, METRICS):
            gap = published.loc[(*a, classes), metric] - published.loc[(*b, classes), metric]
            one, other = (_rows(per_class, side, classes) for side in (a, b))
            gain = resampler.gain(
                name_a, name_b, sorted(one["category_id"].unique()), metric=metric
            )
            known = gain.estimate() if gain else None
            found = difference(by_seed(one, metric), by_seed(other, metric), gap, known)
            rows.append(
                dict(zip(_KEYS, (*a, *b, classes, metric), strict=True)) | as_columns(found)
            )
    return pd.DataFrame(rows)[_KEYS + CELL]


def _published() -> pd.DataFrame:
    """The paper's AP and AP50 by method key, supervised and classes."""
    keys = {label: key for key, label in METHODS.items()}
    table = paper.load("table2")
    return table.assign(method=[keys[label] for label in table["method"]]).set_index(_INDEX)


def _rows(per_class: pd.DataFrame, row: tuple[str, str], classes: str) -> pd.DataFrame:
    """Per-class results of one row of the table on one subset of classes."""
    found = per_class[(per_class["method"] == row[0]) & (per_class["supervised"] == row[1])]
    if classes == "all":
        return found
    return found[found["category"].isin(VOC_CLASSES) == (classes == "voc")]
