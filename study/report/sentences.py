"""Findings that more than one page shows, in the words of `templates/sentences.md.j2`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from study.analysis.comparison import Comparison
from study.analysis.contrasts import QUESTIONS
from study.claims.evidence import contrast
from study.labels import BACKBONES, BASELINE, DIRECTIONS, OURS
from study.report.render import say
from study.report.words import WORDS
from study.spec.run import Run


def headline(found: Sequence[Comparison], scale: str) -> str:
    """One sentence that sums up the comparisons of a scale."""
    return say("headline", Counter(one.verdict for one in found), scale)


def gain(one: Comparison) -> str:
    """One comparison of Table 1 with its numbers."""
    return say("gain", one, one.whole(), WORDS["sign"][one.verdict].replace("*", ""))


def control(
    contrasts: pd.DataFrame, repeated: Mapping[str, pd.DataFrame] | None = None
) -> list[str]:
    """How much of a gain is the prior's, where all three runs were made. OPMask's gain over a
    baseline of four mask convolutions is the control's (seven, no prior) over that baseline plus
    OPMask's over the control.

    contrasts: of `contrasts.contrast_table`. repeated: of `Inputs`, for noise between trainings.
    """
    rows = {(row["a"], row["b"], row["task"]): row for row in contrasts.to_dict("records")}
    found = []
    for (a, b, task), row in rows.items():
        run, other = Run.from_name(a), Run.from_name(b)
        if (run.method, other.method) != (OURS, "maskrcnn7"):
            continue
        deeper = rows.get((b, other.with_method(BASELINE).name, task))
        if deeper and not math.isnan(row["low"]) and not math.isnan(deeper["low"]):
            where = DIRECTIONS.get(run.supervised, f"masks of `{run.supervised}`")
            both = (contrast(one, contrasts, repeated or {}).whole() for one in (row, deeper))
            unit = "AP" if task == "segm" else "points of mask IoU in true boxes"
            found.append(say("control", f"{BACKBONES[run.backbone]}, {where}", *both, unit))
    return found


def further(contrasts: pd.DataFrame) -> list[str]:
    """OPMask's gain on splits and with backbones that the paper does not have; `contrasts`: rows
    of `further.of_further`."""
    found = []
    for row in contrasts[contrasts["claim"] == QUESTIONS["gain"][0]].to_dict("records"):
        run = Run.from_name(row["a"])
        found.append(say("further", f"{run.backbone}, masks of `{run.supervised}`", row))
    return found
