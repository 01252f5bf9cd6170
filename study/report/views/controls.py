"""Why does it work? A paragraph a measure, from the controls that were run, and their answers."""

from collections import defaultdict
from typing import Literal

import pandas as pd

from study.analysis.controls import MEASURES, answers
from study.analysis.estimate import MIN_SEEDS, Estimate
from study.labels import DIRECTIONS
from study.report.blocks import Block, Bullets
from study.report.render import say

Answer = Literal["yes", "no", "not decided"]


def paragraphs(frame: pd.DataFrame) -> list[Block]:
    """What stands below the figure; `frame` is `contrasts.csv`. Empty without a control."""
    found: list[Block] = []
    for task, measure in MEASURES.items():
        asked = [
            (one, {DIRECTIONS[s]: (answer(known), known) for s, known in estimates.items()})
            for one, estimates in answers(frame, task)
        ]
        if asked:
            takes = defaultdict(list)
            for one, known in asked:
                if "takes" in one:
                    takes[common([a for a, _ in known.values()])].append(one["takes"])
            few = any(e.seeds < MIN_SEEDS for _, known in asked for _, e in known.values())
            found += [
                say("controls", measure, takes, few),
                Bullets([say("control_answer", one["question"], known) for one, known in asked]),
            ]
    return found


def answer(known: Estimate) -> Answer:
    """Yes or no if all its intervals, over images and seeds, lie on one side of 0."""
    side = known.whole().side_of()
    return "yes" if side == "above" else "no" if side == "below" else "not decided"


def common(found: list[Answer]) -> Answer:
    """Of all directions, if they agree and there are all."""
    (first, *others) = set(found)
    return first if not others and len(found) == len(DIRECTIONS) else "not decided"
