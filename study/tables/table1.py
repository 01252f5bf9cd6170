"""Table 1 of the paper (section 4.3): OPMask against its baseline on novel classes, both ways.

Beside the paper's columns stand what it leaves out: a paired bootstrap interval of the gain, box AP
of the same classes, and mask AP of the supervised classes. The other systems that the paper quotes
are there as it quotes them.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from opmask.evaluation.bootstrap import Difference, paired_differences
from opmask.evaluation.coco_ap import Matches
from study import paper
from study.analysis.comparison import (
    BASELINE,
    DIFFERENCE,
    DIRECTIONS,
    METHODS,
    OURS,
    with_others,
)
from study.spec.results import METRICS, evaluation_dir
from study.spec.run import Run
from study.tables.cells import CELL, NAN, cell, difference

# (classes, task, metric): the paper's six, then what gives them their context
_PAPER_CELLS = [("novel", "segm", metric) for metric in METRICS]
_CONTEXT_CELLS = [("novel", "bbox", "AP"), ("novel", "bbox", "AP50"), ("supervised", "segm", "AP")]
_CELL_KEYS = ["classes", "task", "metric"]

Gains = Mapping[tuple[str, str], Mapping[str, Difference]]


def novel_gains(
    runs_dir: Path, runs: Sequence[Run], per_class: pd.DataFrame, *, resamples: int, seed: int
) -> dict[tuple[str, str], dict[str, Difference]]:
    """Paired bootstrap of novel-class mask AP, OPMask − baseline, over validation images.

    Args:
        runs_dir: `runs/<scale>`, with `matches_segm.npz` of every evaluated run.
        runs: those of Table 1, of one schedule.
        per_class: of `results.read_per_class`; says which runs exist and which classes are novel.
        resamples, seed: of the bootstrap.

    Returns:
        The difference in each of `weighted_ap.METRICS` by (backbone, supervised), where both
        methods were run.
    """
    gains = {}
    novel = per_class[(per_class["supervision"] == "novel") & (per_class["task"] == "segm")]
    pairs = list(product(with_others(run.backbone for run in runs), DIRECTIONS))
    for backbone, supervised in tqdm(pairs, desc="bootstrap", disable=None):
        matches = {method: [] for method in METHODS}
        classes = set()
        for run in runs:
            ids = novel.loc[(novel["run"] == run.name) & (novel["seed"] == run.seed), "category_id"]
            wanted = (run.backbone, run.supervised) == (backbone, supervised)
            if wanted and len(ids) and run.method in METHODS:
                path = evaluation_dir(runs_dir, run) / "matches_segm.npz"
                matches[run.method].append(Matches.load(path))
                classes.update(int(i) for i in ids)
        if all(matches.values()):
            gains[backbone, supervised] = paired_differences(
                matches[OURS], matches[BASELINE], sorted(classes), resamples=resamples, seed=seed
            )
    return gains


def table1(summary: pd.DataFrame, gains: Gains) -> pd.DataFrame:
    """Table 1 as a tidy frame: one row a backbone × method × direction × classes × task × metric.

    Args:
        summary: of `results.summarise`, of runs of one schedule.
        gains: of `novel_gains`; fills `low` and `high` of the differences in novel mask AP, AP50
            and AP75.

    Returns:
        Columns: backbone, method (as in the paper, or `difference` = OPMask − baseline),
        supervised, direction, classes (novel | supervised), task, metric; `cells.CELL`; quoted
        (True for the systems whose numbers the paper quotes; we run none). AP in percent.
    """
    published = paper.load("table1")
    rows = []
    for backbone in with_others(summary["backbone"]):
        for supervised in DIRECTIONS:
            ours = summary.query("backbone == @backbone and supervised == @supervised")
            paper_rows = published.query("backbone == @backbone and supervised == @supervised")
            key = {"backbone": backbone, "supervised": supervised}
            key["direction"] = DIRECTIONS[supervised]
            for name in _PAPER_CELLS + _CONTEXT_CELLS:
                values = dict.fromkeys(METHODS.values(), NAN)
                if name in _PAPER_CELLS and len(paper_rows):
                    values = dict(zip(paper_rows["method"], paper_rows[name[2]], strict=True))
                known = gains.get((backbone, supervised), {}) if name in _PAPER_CELLS else {}
                gain = known.get(name[2])
                key |= dict(zip(_CELL_KEYS, name, strict=True))
                rows += [key | row for row in _cell_rows(ours, name, values, gain)]
    columns = ["backbone", "method", "supervised", "direction", *_CELL_KEYS, *CELL, "quoted"]
    return pd.DataFrame(rows)[columns]


def _cell_rows(
    ours: pd.DataFrame, name: tuple, published: Mapping[str, float], gain: Difference | None
) -> list[dict]:
    """Rows of one cell: the methods of `published` in its order, then the difference.

    `ours` is of one comparison.
    """
    classes, task, metric = name
    ours = ours.query("supervision == @classes and task == @task")
    keys = {method: key for key, method in METHODS.items()}
    seeds = {
        method: ours[ours["method"] == keys.get(method)].set_index("seed")[metric]
        for method in published
    }
    rows = [
        {"method": method, "quoted": method not in keys} | cell(values, published[method])
        for method, values in seeds.items()
    ]
    a, b = METHODS[OURS], METHODS[BASELINE]
    gap = difference(seeds[a], seeds[b], published[a] - published[b], gain)
    return [*rows, {"method": DIFFERENCE, "quoted": False} | gap]
