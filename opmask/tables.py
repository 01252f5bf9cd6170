"""Table 1 of the paper (section 4.3): OPMask against its baseline on novel classes, both ways.

A table is first a tidy frame for programs (`table1`), then Markdown for people
(`table1_markdown`). Beside the paper's columns stand what it leaves out: a paired bootstrap
interval of the gain, box AP of the same classes, and mask AP of the supervised classes.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from opmask import markdown, paper
from opmask.bootstrap import Difference, paired_difference
from opmask.comparison import (
    BACKBONES,
    BASELINE,
    DIFFERENCE,
    DIRECTIONS,
    METHODS,
    NOT_RUN,
    OURS,
    Comparison,
    comparisons,
    headline,
    interval,
)
from opmask.evaluation import Matches
from opmask.plan import Run
from opmask.results import METRICS, evaluation_dir

# (classes, task, metric): the paper's six, then what gives them their context
_PAPER_CELLS = [("novel", "segm", metric) for metric in METRICS]
_CONTEXT_CELLS = [("novel", "bbox", "AP"), ("novel", "bbox", "AP50"), ("supervised", "segm", "AP")]
_CELL_KEYS = ["classes", "task", "metric"]

Gains = Mapping[tuple[str, str], Difference]


def novel_gains(
    runs_dir: Path, runs: Sequence[Run], per_class: pd.DataFrame, *, resamples: int, seed: int
) -> dict[tuple[str, str], Difference]:
    """Paired bootstrap of novel-class mask AP, OPMask − baseline, over validation images.

    Args:
        runs_dir: `runs/<scale>`, with `matches_segm.npz` of every evaluated run.
        runs: those of Table 1, of one schedule.
        per_class: of `results.read_per_class`; says which runs exist and which classes are novel.
        resamples, seed: of the bootstrap.

    Returns:
        The difference by (backbone, supervised), where both methods were run.
    """
    gains = {}
    novel = per_class[(per_class["supervision"] == "novel") & (per_class["task"] == "segm")]
    pairs = list(product(BACKBONES, DIRECTIONS))
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
            gains[backbone, supervised] = paired_difference(
                matches[OURS], matches[BASELINE], sorted(classes), resamples=resamples, seed=seed
            )
    return gains


def table1(summary: pd.DataFrame, gains: Gains) -> pd.DataFrame:
    """Table 1 as a tidy frame: one row a backbone × method × direction × classes × task × metric.

    Args:
        summary: of `results.summarise`, of runs of one schedule.
        gains: of `novel_gains`; fills `low` and `high` of the difference in novel mask AP.

    Returns:
        Columns: backbone, method (as in the paper, or `difference` = OPMask − baseline),
        supervised, direction, classes (novel | supervised), task, metric; ours (mean over seeds),
        sd (over seeds; NaN for one), seeds (0 = not run), low and high (95 %), paper,
        ours_minus_paper. AP in percent.
    """
    published = paper.load("table1").set_index(["backbone", "supervised", "method"]).sort_index()
    rows = []
    for backbone in BACKBONES:
        for supervised in DIRECTIONS:
            ours = summary.query("backbone == @backbone and supervised == @supervised")
            key = {"backbone": backbone, "supervised": supervised}
            key["direction"] = DIRECTIONS[supervised]
            for cell in _PAPER_CELLS + _CONTEXT_CELLS:
                gain = gains.get((backbone, supervised)) if cell == _PAPER_CELLS[0] else None
                values = _paper_values(published.loc[backbone, supervised], cell)
                key = {"backbone": backbone, "supervised": supervised}
                key |= {"direction": DIRECTIONS[supervised]} | dict(
                    zip(_CELL_KEYS, cell, strict=True)
                )
                rows += [key | row for row in _cell_rows(ours, cell, values, gain)]
    columns = ["backbone", "method", "supervised", "direction", *_CELL_KEYS]
    columns += ["ours", "sd", "seeds", "low", "high", "paper", "ours_minus_paper"]
    return pd.DataFrame(rows)[columns]


def _paper_values(published: pd.DataFrame, cell: tuple[str, str, str]) -> dict[str, float]:
    """The paper's numbers of one cell by our method key, empty where it gives none."""
    if cell not in _PAPER_CELLS:
        return {}
    values = {key: published.loc[label, cell[2]] for key, label in METHODS.items()}
    return values | {DIFFERENCE: values[OURS] - values[BASELINE]}


def _cell_rows(
    ours: pd.DataFrame, cell: tuple, published: dict, gain: Difference | None
) -> list[dict]:
    """Rows of one cell: each method, then the difference. `ours` is of one comparison."""
    classes, task, metric = cell
    ours = ours.query("supervision == @classes and task == @task")
    seeds = {key: ours[ours["method"] == key].set_index("seed")[metric] for key in METHODS}
    # sd of the difference pairs equal seeds: they share initialisation and image order
    paired = (seeds[OURS] - seeds[BASELINE]).dropna()
    means = {key: values.mean() for key, values in seeds.items()}
    means[DIFFERENCE] = means[OURS] - means[BASELINE]
    rows = []
    for key, values in (seeds | {DIFFERENCE: paired}).items():
        row = {"method": METHODS.get(key, key), "ours": means[key], "sd": values.std()}
        row |= {"seeds": len(values), "low": float("nan"), "high": float("nan")}
        if key == DIFFERENCE and gain is not None:
            row |= {"low": gain.low, "high": gain.high}
        row["paper"] = published.get(key, float("nan"))
        rows.append(row | {"ours_minus_paper": row["ours"] - row["paper"]})
    return rows


def table1_markdown(table: pd.DataFrame, scale: str, *, lead: bool = True) -> str:
    """Table 1 for people: the finding in a sentence (unless the page around it leads with it
    already), the gains, the paper's columns, and their context."""
    found = comparisons(table)
    parts = [headline(found, scale)] if lead else []
    parts += [_gains_markdown(found), _caveats(scale, found)]
    for supervised, direction in DIRECTIONS.items():
        tested = direction.split(" → ")[1]
        rows = table[table["supervised"] == supervised]
        parts += [
            f"**{direction}**: masks of {direction.split(' → ')[0]} in training, tested on "
            f"{tested}. Mask AP of these novel classes, percent.",
            _metrics_markdown(rows),
        ]
    parts += [
        "**Context**: box AP of the novel classes (their boxes are labelled, so it says how well "
        "they are detected at all) and mask AP of the supervised classes. Table 1 of the paper "
        "does not give these.",
        _context_markdown(table),
    ]
    return "\n\n".join(parts)


def _gains_markdown(found: Sequence[Comparison]) -> str:
    rows = []
    for one in found:
        ran = one.verdict != NOT_RUN
        rows.append(
            {
                "Backbone": BACKBONES[one.backbone],
                "Direction": DIRECTIONS[one.supervised],
                "Baseline": markdown.number(one.baseline, 2),
                "OPMask": markdown.number(one.opmask, 2),
                "Gain": markdown.signed(one.gain, 2) if ran else NOT_RUN,
                "95 % interval": interval(one.low, one.high) if ran else markdown.MISSING,
                "Seeds": one.seeds or markdown.MISSING,
                "Paper's gain": markdown.signed(one.paper_gain),
            }
        )
    return markdown.table(pd.DataFrame(rows), left=2)


def _caveats(scale: str, found: Sequence[Comparison]) -> str:
    lines = [
        "The interval is a paired bootstrap over validation images, each row by itself (not "
        "corrected for several rows). It says what other images would have given, not what "
        "another training would."
    ]
    if any(one.seeds == 1 for one in found):
        lines.append(
            "With one seed the noise between trainings is not measured; on COCO the mask AP of "
            "identical Mask R-CNN runs varies by about 0.1 (standard deviation)."
        )
    if scale != "coco":
        lines.append(
            "Data, image size and schedule are not the paper's at this scale: **its absolute "
            "numbers are context, not a target**. What can be compared is the sign of the gain."
        )
    return " ".join(lines)


def _value(row: pd.Series, text: str) -> str:
    """One of our numbers, with its spread over seeds where there are several."""
    if row["seeds"] > 1:
        text += f" ± {row['sd']:.1f}"
    return text


def _metrics_markdown(rows: pd.DataFrame) -> str:
    """The paper's six columns of one direction: ours, the paper's, and the difference."""
    novel = rows.query("classes == 'novel' and task == 'segm'")
    lines = []
    for backbone in BACKBONES:
        for method in [*METHODS.values(), DIFFERENCE]:
            cells = novel[(novel["backbone"] == backbone) & (novel["method"] == method)]
            cells = cells.set_index("metric").loc[METRICS]
            form = markdown.signed if method == DIFFERENCE else markdown.number
            ran = cells["seeds"].max() > 0
            lines.append(
                {"Backbone": BACKBONES[backbone], "Method": method, "": "ours"}
                | {m: _value(c, form(c["ours"])) if ran else NOT_RUN for m, c in cells.iterrows()}
            )
            lines.append({"": "paper"} | {m: form(v) for m, v in cells["paper"].items()})
            if ran and method != DIFFERENCE:
                gap = cells["ours_minus_paper"].items()
                lines.append({"": "ours − paper"} | {m: markdown.signed(v) for m, v in gap})
    return markdown.table(pd.DataFrame(lines).fillna(""), left=3)


def _context_markdown(table: pd.DataFrame) -> str:
    labels = ("Novel: box AP", "Novel: box AP50", "Supervised: mask AP")
    lines = []
    keys = ["backbone", "direction", "method"]
    for key, rows in table[table["method"] != DIFFERENCE].groupby(keys, sort=False):
        cells = rows.set_index(_CELL_KEYS)
        line = {"Backbone": BACKBONES[key[0]], "Direction": key[1], "Method": key[2]}
        for cell, label in zip(_CONTEXT_CELLS, labels, strict=True):
            row = cells.loc[cell]
            line[label] = _value(row, markdown.number(row["ours"])) if row["seeds"] else NOT_RUN
        lines.append(line)
    return markdown.table(pd.DataFrame(lines), left=3)
