"""Table 1 of the paper (section 4.3): OPMask against its baseline on novel classes, both ways.

A table is first a tidy frame for programs (`table1`), then Markdown for people
(`table1_markdown`). Beside the paper's columns stand what it leaves out: a paired bootstrap
interval of the gain, box AP of the same classes, and mask AP of the supervised classes. The other
systems that the paper quotes are there as it quotes them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import pandas as pd
from tqdm import tqdm

from opmask.evaluation.weighted_ap import METRICS as BOOTSTRAPPED
from study import format as markdown
from study import paper
from study.analysis.comparison import Comparison, comparisons, shown
from study.analysis.estimate import NAN, Estimate
from study.analysis.resampling import Resampler
from study.format import interval
from study.labels import (
    BACKBONES,
    BASELINE,
    DIFFERENCE,
    DIRECTIONS,
    METHODS,
    NOT_RUN,
    OURS,
    with_others,
)
from study.report import latex
from study.report.sentences import headline
from study.spec.results import METRICS
from study.tables.cells import (
    CELL,
    SOURCE,
    as_columns,
    caveats,
    cell,
    difference,
    gain_text,
    lines,
    value,
)

# (classes, task, metric): the paper's six, then what gives them their context
_PAPER_CELLS = [("novel", "segm", metric) for metric in METRICS]
_CONTEXT_CELLS = [("novel", "bbox", "AP"), ("novel", "bbox", "AP50"), ("supervised", "segm", "AP")]
_CELL_KEYS = ["classes", "task", "metric"]
QUOTED = "quoted"

Gains = Mapping[tuple[str, str], Mapping[str, Estimate]]


def novel_gains(resampler: Resampler, backbones: Iterable[str]) -> Gains:
    """Paired bootstrap of novel-class mask AP, OPMask − baseline, over validation images.

    Returns the gain in each of `weighted_ap.METRICS` by (backbone, supervised), where both methods
    were run; `backbones` are looked at besides the paper's.
    """
    gains = {}
    pairs = list(product(with_others(backbones), DIRECTIONS))
    for backbone, supervised in tqdm(pairs, desc="bootstrap", disable=None):
        a, b = (f"{method}-{backbone}-{supervised}" for method in (OURS, BASELINE))
        ids = resampler.classes(a, "novel")
        found = {metric: resampler.gain(a, b, ids, metric=metric) for metric in BOOTSTRAPPED}
        known = {metric: gain.estimate() for metric, gain in found.items() if gain}
        if known:
            gains[backbone, supervised] = known
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
    ours: pd.DataFrame, name: tuple, published: Mapping[str, float], gain: Estimate | None
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
        {"method": method, "quoted": method not in keys}
        | as_columns(cell(values, published[method]))
        for method, values in seeds.items()
    ]
    a, b = METHODS[OURS], METHODS[BASELINE]
    gap = difference(seeds[a], seeds[b], published[a] - published[b], gain)
    return [*rows, {"method": DIFFERENCE, "quoted": False} | as_columns(gap)]


def table1_markdown(table: pd.DataFrame, scale: str, *, lead: bool = True) -> str:
    """Table 1 for people: the finding in a sentence (unless the page around it leads with it
    already), the gains, the paper's columns, and their context."""
    table = shown(table)
    found = comparisons(table)
    parts = [headline(found, scale)] if lead else []
    parts += [_gains_markdown(found, table), caveats(scale, [one.seeds for one in found])]
    for supervised, direction in DIRECTIONS.items():
        tested = direction.split(" → ")[1]
        rows = table[table["supervised"] == supervised]
        parts += [
            f"**{direction}**: masks of {direction.split(' → ')[0]} in training, tested on "
            f"{tested}. Mask AP of these novel classes, percent.",
            markdown.table(metrics_frame(rows), left=3),
        ]
    parts += [
        "**Context**: box AP of the novel classes (their boxes are labelled, so it says how well "
        "they are detected at all) and mask AP of the supervised classes. Table 1 of the paper "
        "does not give these.",
        _context_markdown(table),
    ]
    return "\n\n".join(parts)


def _gains_markdown(found: Sequence[Comparison], table: pd.DataFrame) -> str:
    gaps = table.query("method == @DIFFERENCE and classes == 'novel' and task == 'segm'")
    gaps = gaps.set_index(["backbone", "supervised", "metric"])
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
                **{
                    f"Gain in {m}": gain_text(gaps.loc[one.backbone, one.supervised, m])
                    for m in ("AP50", "AP75")
                },
                "Seeds": one.seeds or markdown.MISSING,
                "Paper's gain": markdown.signed(one.paper_gain),
            }
        )
    return markdown.table(pd.DataFrame(rows), left=2)


def metrics_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """The paper's six columns of one direction for people: ours, the paper's, the difference of
    the two, and what the paper quotes of others."""
    novel = rows.query("classes == 'novel' and task == 'segm'")
    found = []
    for (backbone, method), group in novel.groupby(["backbone", "method"], sort=False):
        cells = {row["metric"]: row for _, row in group.iterrows()}
        head = {"Backbone": BACKBONES[backbone], "Method": method}
        if group["quoted"].any():
            values = {metric: markdown.number(row["paper"]) for metric, row in cells.items()}
            found.append(head | {SOURCE: QUOTED} | values)
        else:
            found += lines(head, cells, signed=method == DIFFERENCE)
    return pd.DataFrame(found)


def table1_latex(table: pd.DataFrame, scale: str) -> str:
    """Table 1 as LaTeX, a table a direction. `table` is of `table1`."""
    return "\n".join(
        latex.table(
            metrics_frame(shown(table).query("supervised == @supervised")),
            f"Mask AP of novel classes, percent: {direction}, scale {scale}.",
            f"tab:novel-{supervised}",
            left=3,
        )
        for supervised, direction in DIRECTIONS.items()
    )


def _context_markdown(table: pd.DataFrame) -> str:
    labels = ("Novel: box AP", "Novel: box AP50", "Supervised: mask AP")
    found = []
    keys = ["backbone", "direction", "method"]
    ours = table[(table["method"] != DIFFERENCE) & ~table["quoted"]]
    for key, rows in ours.groupby(keys, sort=False):
        cells = rows.set_index(_CELL_KEYS)
        line = {"Backbone": BACKBONES[key[0]], "Direction": key[1], "Method": key[2]}
        for name, label in zip(_CONTEXT_CELLS, labels, strict=True):
            row = cells.loc[name]
            line[label] = value(row, markdown.number(row["ours"])) if row["seeds"] else NOT_RUN
        found.append(line)
    return markdown.table(pd.DataFrame(found), left=3)
