"""The headline numbers of a scale for DVC (`metrics.json`), and the page that sets all scales
side by side (`reports/README.md`), which is written from those numbers alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from study import paper
from study.analysis.comparison import Comparison, comparisons
from study.format import interval, signed
from study.labels import (
    BACKBONES,
    BASELINE,
    DIRECTIONS,
    METHODS,
    NOT_RUN,
    OURS,
    place,
    shown_backbones,
    with_others,
)
from study.report.blocks import Table
from study.report.render import render
from study.report.sentences import headline
from study.report.views.summary import scale_in_words
from study.report.words import WORDS

_DIRECTION_KEYS = {"voc": "voc_to_nonvoc", "nonvoc": "nonvoc_to_voc"}
_KEYS = {"baseline": "novel_AP_baseline", "opmask": "novel_AP_opmask", "gain": "gain"}
_KEYS |= {"low": "gain_low", "high": "gain_high"}


def metrics(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """DVC metrics: the headline numbers by backbone and direction (`voc_to_nonvoc` …).

    AP in percent as in the table; comparisons that were not run, and what they lack, are left out.
    """
    box = table.query("classes == 'novel' and task == 'bbox' and metric == 'AP50'")
    box = box.set_index(["backbone", "supervised", "method"])["ours"]
    found: dict[str, dict] = {}
    for one in comparisons(table):
        values = {name: getattr(one, field) for field, name in _KEYS.items()}
        for suffix, method in zip(("baseline", "opmask"), METHODS.values(), strict=True):
            values[f"novel_box_AP50_{suffix}"] = box[one.backbone, one.supervised, method]
        values = {k: round(float(v), 4) for k, v in values.items() if not math.isnan(v)}
        if values:
            found.setdefault(one.backbone, {})[_DIRECTION_KEYS[one.supervised]] = values
    return found


def from_metrics(
    content: Mapping[str, Any], backbones: Sequence[str] | None = None
) -> list[Comparison]:
    """The comparisons that a `metrics.json` holds, and as not run those that it does not.

    `seeds` is 0: metrics.json does not say. `backbones`: which, and in which order.
    """
    published = paper.load("table1").set_index(["backbone", "supervised", "method"])
    published = published["AP"].sort_index()
    found = []
    for backbone in backbones or shown_backbones(content):
        for supervised in DIRECTIONS:
            values = content.get(backbone, {}).get(_DIRECTION_KEYS[supervised], {})
            stated = math.nan
            if backbone in BACKBONES:
                rows = published[backbone, supervised]
                stated = rows[METHODS[OURS]] - rows[METHODS[BASELINE]]
            fields = {field: values.get(name, math.nan) for field, name in _KEYS.items()}
            fields |= {"value": fields.pop("gain"), "paper": stated}
            name = place(backbone, supervised)
            found.append(Comparison(name, backbone=backbone, supervised=supervised, **fields))
    return found


def render_index(by_scale: Mapping[str, Mapping[str, Any]]) -> str:
    """The Markdown of `reports/README.md`: every scale's gains side by side.

    Args:
        by_scale: the content of each `reports/<scale>/metrics.json`.
    """
    scales = sorted(by_scale, key=lambda scale: (_rank(scale), scale))
    backbones = with_others(name for scale in scales for name in by_scale[scale])
    found = {scale: from_metrics(by_scale[scale], backbones) for scale in scales}
    rows = []
    for index, one in enumerate(from_metrics({}, backbones)):  # with the paper's numbers
        row = {"Backbone": BACKBONES[one.backbone], "Direction": DIRECTIONS[one.supervised]}
        row |= {scale: _gain_cell(found[scale][index]) for scale in scales}
        rows.append(row | {"Paper": signed(one.paper_gain)})
    lines = [
        (scale, scale_in_words(scale), headline(from_metrics(by_scale[scale]), scale))
        for scale in scales
    ]
    return render("reports.md.j2", scales=lines, gains=Table(pd.DataFrame(rows), left=2))


def _rank(scale: str) -> int:
    """From small to large; a user's own scale comes last."""
    scales = [*WORDS["scales"]]
    return scales.index(scale) if scale in scales else len(scales)


def _gain_cell(one: Comparison) -> str:
    if one.verdict == NOT_RUN:
        return NOT_RUN
    return f"{signed(one.gain, 2)} ({interval(one.low, one.high)})"
