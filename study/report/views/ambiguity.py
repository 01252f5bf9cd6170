"""The ambiguity comparison: findings in words, then in numbers."""

from itertools import product

import numpy as np
import pandas as pd

from study.analysis.ambiguity_effect import CONTRAST_NAMES, CONTRASTS, GROUPS
from study.analysis.comparison import backbones_run, shown
from study.format import interval, number, signed
from study.labels import BACKBONES, DIRECTIONS, NOT_RUN, shown_backbones
from study.report.blocks import Block, Bullets, Heading, Table
from study.report.words import WORDS


def blocks(frame: pd.DataFrame, threshold: float) -> list[Block]:
    """The page. `frame` is `ambiguity.csv`, of `ambiguity_effect.effect_table`."""
    frame = shown(frame)
    novel = frame[frame["classes"] == "novel"]
    main = novel[novel["contrast"] == "-".join(CONTRASTS[0])]
    iou = novel[novel["measure"] == "mask_iou"]
    return [
        Bullets(sentences(frame)),
        WORDS["ambiguity"].format(threshold=threshold),
        Heading("OPMask against the baseline"),
        _table(main, "measure"),
        Heading("Mask IoU: what the prior adds, and what the deeper mask head"),
        _table(iou, "contrast"),
    ]


def sentences(frame: pd.DataFrame) -> list[str]:
    """One finding a backbone and direction: is the gain larger where RoIs are ambiguous?"""
    chosen = frame[
        (frame["measure"] == "mask_iou")
        & (frame["classes"] == "novel")
        & (frame["contrast"] == "-".join(CONTRASTS[0]))
    ].set_index(["backbone", "supervised", "group"])
    found = []
    for backbone, supervised in product(shown_backbones(backbones_run(frame)), DIRECTIONS):
        name = f"{BACKBONES[backbone]}, {DIRECTIONS[supervised]}"
        ambiguous, clean, difference = (chosen.loc[backbone, supervised, g] for g in GROUPS)
        if not difference["seeds"]:
            found.append(f"{name}: {NOT_RUN}.")
            continue
        found.append(
            f"{name}: in ambiguous RoIs ({ambiguous['instances']:.0f} instances) the mean mask IoU "
            f"of novel classes is {_distance(ambiguous)} with OPMask than with the "
            f"baseline, in clean ones ({clean['instances']:.0f}) {_distance(clean)}. The "
            f"two gains differ by {signed(difference['gain'])} (interval "
            f"{interval(difference['low'], difference['high'])}): {verdict(difference)}."
        )
    return found


def _distance(cell: pd.Series) -> str:
    """`2.0 points higher (+0.5 to +3.5)`, of a gain in percent with its interval."""
    points = number(abs(cell["gain"]))
    way = "lower" if cell["gain"] < 0 else "higher"
    return f"{points} points {way} ({interval(cell['low'], cell['high'])})"


def verdict(difference: pd.Series) -> str:
    """Which way the gain's difference, ambiguous − clean, points by its interval."""
    if difference["low"] > 0:
        return "the gain is larger where RoIs are ambiguous, as the paper explains it"
    if difference["high"] < 0:
        return "the gain is smaller where RoIs are ambiguous, against the paper's explanation"
    return "whether the gain depends on ambiguity is not decided"


def _table(frame: pd.DataFrame, key: str) -> Table:
    """A row a run pair × `key` (measure | contrast), three columns a group."""
    names = {"mask_iou": "mask IoU", **{"-".join(c): n for c, n in CONTRAST_NAMES.items()}}
    rows = []
    for (backbone, supervised, value), cells in frame.groupby(
        ["backbone", "supervised", key], sort=False
    ):
        row = {"runs": f"{BACKBONES[backbone]}, {DIRECTIONS[supervised]}"}
        row[key] = names.get(value, value)
        for _, cell in cells.iterrows():
            row[cell["group"]] = _cell_text(cell)
        rows.append(row)
    return Table(pd.DataFrame(rows), left=2)


def _cell_text(cell: pd.Series) -> str:
    if not cell["seeds"]:
        return NOT_RUN
    text = signed(cell["gain"])
    if cell["group"] != "difference":
        text = f"{number(cell['b'])} → {number(cell['a'])} ({text})"
    if cell["seeds"] > 1:
        text += f" ± {number(cell['sd'])}"
    return text if np.isnan(cell["low"]) else f"{text}, {interval(cell['low'], cell['high'])}"
