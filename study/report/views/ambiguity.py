"""The ambiguity comparison: findings in words, then in numbers."""

from itertools import product

import numpy as np
import pandas as pd

from study.analysis.ambiguity_effect import CONTRAST_NAMES, CONTRASTS, GROUPS
from study.analysis.comparison import backbones_run, shown
from study.format import interval, number, signed, spread
from study.labels import DIRECTIONS, METRICS, NOT_RUN, place, shown_backbones
from study.report.blocks import Block, Bullets, Heading, Table
from study.report.render import say
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


def findings(frame: pd.DataFrame) -> list[Block]:
    """What it says about the paper's explanation."""
    return [WORDS["summary"]["ambiguity"], Bullets(sentences(frame))]


def sentences(frame: pd.DataFrame) -> list[str]:
    """One finding a backbone and direction: is the gain larger where RoIs are ambiguous?"""
    chosen = frame[
        (frame["measure"] == "mask_iou")
        & (frame["classes"] == "novel")
        & (frame["contrast"] == "-".join(CONTRASTS[0]))
    ].set_index(["backbone", "supervised", "group"])
    return [
        say(
            "ambiguity",
            place(backbone, supervised),
            *(chosen.loc[backbone, supervised, group] for group in GROUPS),
        )
        for backbone, supervised in product(shown_backbones(backbones_run(frame)), DIRECTIONS)
    ]


def _table(frame: pd.DataFrame, key: str) -> Table:
    """A row a run pair × `key` (measure | contrast), three columns a group."""
    names = {"mask_iou": "mask IoU", "oracle_iou": METRICS["IoU"]}
    names |= {"-".join(c): n for c, n in CONTRAST_NAMES.items()}
    rows = [
        {"runs": place(backbone, supervised), key: names.get(value, value)}
        | {cell["group"]: _cell_text(cell) for _, cell in cells.iterrows()}
        for (backbone, supervised, value), cells in frame.groupby(
            ["backbone", "supervised", key], sort=False
        )
    ]
    return Table(pd.DataFrame(rows), left=2)


def _cell_text(cell: pd.Series) -> str:
    if not cell["seeds"]:
        return NOT_RUN
    text = signed(cell["gain"])
    if cell["group"] != "difference":
        text = f"{number(cell['b'])} → {number(cell['a'])} ({text})"
    text += spread(cell["sd"], 1)
    return text if np.isnan(cell["low"]) else f"{text}, {interval(cell['low'], cell['high'])}"
