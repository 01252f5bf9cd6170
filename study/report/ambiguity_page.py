"""The ambiguity comparison as a page for people: findings in words, then in numbers."""

from itertools import product

import numpy as np
import pandas as pd

from study import format as markdown
from study.analysis.ambiguity_effect import CONTRAST_NAMES, CONTRASTS, GROUPS
from study.analysis.comparison import backbones_run, shown
from study.format import interval
from study.labels import BACKBONES, DIRECTIONS, NOT_RUN, shown_backbones


def markdown_page(table: pd.DataFrame, threshold: float) -> str:
    """The findings in words, then in numbers. `table` is of `effect_table`."""
    table = shown(table)
    novel = table[table["classes"] == "novel"]
    main = novel[novel["contrast"] == "-".join(CONTRASTS[0])]
    iou = novel[novel["measure"] == "mask_iou"]
    text = (
        f"An instance is in an ambiguous RoI if other instances cover more than {threshold:.0%} of "
        "its box. Novel classes, instances that both methods found (same class, box IoU of 0.5); "
        "all numbers in percent, 95 % intervals of a paired bootstrap over images. *Coverage*: of "
        "the instance's own pixels. *Confusion*: of the other instances' pixels in its box. "
        "*Perforation*: share of the filled mask that is hole where the instance has none. "
        "AP: of the instances of a group, without the detections that found one of the other "
        "group; without interval."
    )
    return "\n\n".join(
        [
            "\n".join(f"- {sentence}" for sentence in sentences(table)),
            text,
            "## OPMask against the baseline",
            markdown.table(_display(main, "measure"), left=2),
            "## Mask IoU: what the prior adds, and what the deeper mask head",
            markdown.table(_display(iou, "contrast"), left=2),
        ]
    )


def sentences(table: pd.DataFrame) -> list[str]:
    """One finding a backbone and direction: is the gain larger where RoIs are ambiguous?"""
    chosen = table[
        (table["measure"] == "mask_iou")
        & (table["classes"] == "novel")
        & (table["contrast"] == "-".join(CONTRASTS[0]))
    ].set_index(["backbone", "supervised", "group"])
    found = []
    for backbone, supervised in product(shown_backbones(backbones_run(table)), DIRECTIONS):
        name = f"{BACKBONES[backbone]}, {DIRECTIONS[supervised]}"
        ambiguous, clean, difference = (chosen.loc[backbone, supervised, g] for g in GROUPS)
        if not difference["seeds"]:
            found.append(f"{name}: {NOT_RUN}.")
            continue
        found.append(
            f"{name}: in ambiguous RoIs ({ambiguous['instances']:.0f} instances) the mean mask IoU "
            f"of novel classes is {_distance(ambiguous)} with OPMask than with the "
            f"baseline, in clean ones ({clean['instances']:.0f}) {_distance(clean)}. The "
            f"two gains differ by {markdown.signed(difference['gain'])} (interval "
            f"{interval(difference['low'], difference['high'])}): {verdict(difference)}."
        )
    return found


def _distance(cell: pd.Series) -> str:
    """`2.0 points higher (+0.5 to +3.5)`, of a gain in percent with its interval."""
    points = markdown.number(abs(cell["gain"]))
    way = "lower" if cell["gain"] < 0 else "higher"
    return f"{points} points {way} ({interval(cell['low'], cell['high'])})"


def verdict(difference: pd.Series) -> str:
    """Which way the gain's difference, ambiguous − clean, points by its interval."""
    if difference["low"] > 0:
        return "the gain is larger where RoIs are ambiguous, as the paper explains it"
    if difference["high"] < 0:
        return "the gain is smaller where RoIs are ambiguous, against the paper's explanation"
    return "whether the gain depends on ambiguity is not decided"


def _display(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """A row a run pair × `key` (measure | contrast), three columns a group."""
    names = {"mask_iou": "mask IoU", **{"-".join(c): n for c, n in CONTRAST_NAMES.items()}}
    rows = []
    for (backbone, supervised, value), cells in table.groupby(
        ["backbone", "supervised", key], sort=False
    ):
        row = {"runs": f"{BACKBONES[backbone]}, {DIRECTIONS[supervised]}"}
        row[key] = names.get(value, value)
        for _, cell in cells.iterrows():
            row[cell["group"]] = _cell_text(cell)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell_text(cell: pd.Series) -> str:
    if not cell["seeds"]:
        return NOT_RUN
    text = markdown.signed(cell["gain"])
    if cell["group"] != "difference":
        text = f"{markdown.number(cell['b'])} → {markdown.number(cell['a'])} ({text})"
    if cell["seeds"] > 1:
        text += f" ± {markdown.number(cell['sd'])}"
    return text if np.isnan(cell["low"]) else f"{text}, {interval(cell['low'], cell['high'])}"
