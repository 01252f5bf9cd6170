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
from study import format as markdown
from study import paper
from study.analysis.resampling import Resampler
from study.report import latex
from study.spec.results import read_one, read_per_class
from study.spec.run import Run
from study.tables.cells import (
    CELL,
    SOURCE,
    as_columns,
    by_seed,
    caveats,
    cell,
    difference,
    flat,
    gain_text,
    lines,
    tally,
)
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
    """Table 2 as a tidy frame: one row a number, then one a difference in AP.

    Args:
        per_class: of `read_cam`.
        cam_dir: `runs/<scale>/cam`, with `matches_segm.npz` of every run in `per_class`.
        resamples, seed: of the bootstrap over validation images.

    Returns:
        Columns: method (fasterrcnn | maskrcnn | opmask), supervised (masks in training: all | voc |
        nonvoc), minus_method and minus_supervised (empty but for a difference), classes (tested on:
        all | voc | nonvoc), metric (AP | AP50; differences: AP), and `cells.CELL`. AP in percent.
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
        for classes in SUBSETS:
            gap = published.loc[(*a, classes), "AP"] - published.loc[(*b, classes), "AP"]
            one, other = (_rows(per_class, side, classes) for side in (a, b))
            gain = resampler.gain(name_a, name_b, sorted(one["category_id"].unique()))
            known = gain.estimate() if gain else None
            found = difference(by_seed(one), by_seed(other), gap, known)
            rows.append(dict(zip(_KEYS, (*a, *b, classes, "AP"), strict=True)) | as_columns(found))
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


def table2_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's rows and columns for people; `table` is of `table2`."""
    found = []
    plain = table[table["minus_method"] == ""]
    for (method, supervised), rows in plain.groupby(["method", "supervised"], sort=False):
        head = {("", "Model"): METHODS[method], ("", "Train set"): SUBSETS[supervised]}
        cells = {
            (f"test on {SUBSETS[row['classes']]}", row["metric"]): row for _, row in rows.iterrows()
        }
        found += lines(head, cells, source=("", SOURCE), digits=2)
    return pd.DataFrame(found, columns=pd.MultiIndex.from_tuples(found[0]))


def table2_markdown(table: pd.DataFrame, scale: str) -> str:
    """Table 2 for people. `table` is of `table2`."""
    gaps = table[table["minus_method"] != ""]
    return "\n\n".join(
        [
            "Mask AP, percent, where the class activation map of the predicted class is the mask. "
            "OPMask's is its object mask prior (OMP).",
            _findings(gaps),
            _gains(gaps),
            caveats(scale, table["seeds"].tolist()),
            markdown.table(flat(table2_frame(table)), left=3),
            "The paper's 1.9 AP50 of Mask R-CNN trained on voc, tested on all, does not follow "
            "from its other columns: (20 × 4.0 + 60 × 1.0) / 80 = 1.75. Every other row does.",
        ]
    )


def table2_latex(table: pd.DataFrame, scale: str) -> str:
    """Table 2 as LaTeX. `table` is of `table2`."""
    caption = f"Mask AP, percent, of class activation maps used as masks, scale {scale}."
    return latex.table(table2_frame(table), caption, "tab:cam", left=3)


def _findings(gaps: pd.DataFrame) -> str:
    """Where the intervals lie, for each of the paper's three comparisons."""
    texts = []
    for (a, b), rows in gaps.groupby(["method", "minus_method"], sort=False):
        texts.append(f"- {METHODS[a]} − {METHODS[b]}: {tally(rows)}.")
    return "\n".join(texts)


def _gains(gaps: pd.DataFrame) -> str:
    keys = ["method", "supervised", "minus_method", "minus_supervised"]
    found = []
    for (a, train_a, b, train_b), rows in gaps.groupby(keys, sort=False):
        name = f"{METHODS[a]} ({SUBSETS[train_a]}) − {METHODS[b]} ({SUBSETS[train_b]})"
        line = {"Difference in AP (train set)": name}
        for _, row in rows.iterrows():
            words = f"{gain_text(row)}, paper {markdown.signed(row['paper'])}"
            line[f"test on {SUBSETS[row['classes']]}"] = words
        found.append(line)
    return markdown.table(pd.DataFrame(found))
