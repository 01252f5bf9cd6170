"""Why OPMask works: each control against the baseline, and what its question is answered by.

Declared in `controls.yaml`. All of it are rows of contrasts.csv (`contrasts.contrast_table`), of
mask AP and of whatever other measures of masks that has.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from study.analysis.contrasts import CONTRASTS, Contrast
from study.analysis.declared import load
from study.analysis.estimate import NAN, SEEDS, Estimate
from study.labels import BASELINE, DIRECTIONS, OURS
from study.spec.run import Run

BACKBONE = "R50"
MEASURES = {"segm": "mask AP", "oracle": "mask IoU in true boxes, %"}  # by task, in this order
USUAL = frozenset((OURS, "maskrcnn7", "opmask_detached"))  # also without suite `controls`
CONTROLS: Sequence[Mapping[str, Any]] = load("controls")
COLUMNS = ["task", "supervised", "method", "all_masks", "a", "b", "gain", "low", "high",
           "seeds_low", "seeds_high", "seeds", "sd"]  # fmt: skip


def control_contrasts(
    runs: Sequence[Run], declared: Collection[Contrast] = CONTRASTS
) -> tuple[Contrast, ...]:
    """The contrasts of which `runs` has both, but the declared; none if it has no real control."""
    made = {f"{run.method}-{run.backbone}-{run.supervised}" for run in runs}
    known = {(one.a, one.b) for one in declared}
    if not _has_controls(made):
        return ()
    found = {}
    for one in CONTROLS:
        asked = one.get("question") or one["bound"]
        for supervised in DIRECTIONS:
            for a, b in (_against_baseline(one, supervised), *_answering(one, supervised)):
                if {a, b} <= made and (a, b) not in known:
                    name = f"{a.removesuffix(f'-{BACKBONE}-{supervised}')} over {b}"
                    found[a, b] = Contrast(name, asked, a, b, "novel", "")
    return tuple(found.values())


def with_controls(
    own: pd.DataFrame, repeated: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, str]:
    """The `contrasts.csv` that has controls, and the experiment that it is of: a report's `own`
    (""), or else the first of `repeated`, by experiment; `own` if none has."""
    for name, frame in {"": own, **repeated}.items():
        if _has_controls(frame.loc[frame["difference"].notna(), "a"]):
            return frame, name
    return own, ""


def controls_table(contrasts: pd.DataFrame) -> pd.DataFrame:
    """The figure's: a row a task × control × direction that was run, empty without a real control.

    Columns: task (segm: mask AP, percent), supervised, method, all_masks (trained with the masks of
    all classes), a, b (runs); gain over the baseline; low, high (95 %, over images), seeds_low,
    seeds_high (95 %, Student's over seeds; NaN of fewer than three), seeds, sd.

    Args:
        contrasts: contrasts.csv.
    """
    rows = []
    ran = contrasts[contrasts["difference"].notna()]
    by_runs = {(r["task"], r["a"], r["b"]): r for r in ran.to_dict("records")}
    for task in ran["task"].unique() if _has_controls(ran["a"]) else ():
        for one in CONTROLS:
            for supervised in DIRECTIONS:
                a, b = _against_baseline(one, supervised)
                if row := by_runs.get((task, a, b)):
                    gain = Estimate.of(row, "difference")
                    student = gain.intervals().get(SEEDS, (NAN, NAN))
                    rows.append(
                        {"task": task, "supervised": supervised, "method": one["method"]}
                        | {"all_masks": one.get("all", False), "a": a, "b": b, "gain": gain.value}
                        | {"low": gain.low, "high": gain.high, "seeds": gain.seeds, "sd": gain.sd}
                        | {"seeds_low": student[0], "seeds_high": student[1]}
                    )
    return pd.DataFrame(rows, columns=COLUMNS)


def answers(contrasts: pd.DataFrame, task: str) -> list[tuple[Mapping[str, Any], dict]]:
    """Each question of CONTROLS with its estimates by direction, of those that were run."""
    ran = contrasts[contrasts["difference"].notna() & contrasts["task"].eq(task)]
    by_runs = {(row["a"], row["b"]): row for row in ran.to_dict("records")}
    found = []
    for one in CONTROLS if _has_controls(ran["a"]) else ():
        pairs = {s: pair for s in DIRECTIONS for pair in _answering(one, s) if pair in by_runs}
        if pairs:
            known = {s: Estimate.of(by_runs[pair], "difference") for s, pair in pairs.items()}
            found.append((one, known))
    return found


def _has_controls(runs: Collection[str]) -> bool:
    methods = {one["method"] for one in CONTROLS} - USUAL
    return any(Run.from_name(name).method in methods for name in runs)


def _against_baseline(one: Mapping[str, Any], supervised: str) -> tuple[str, str]:
    masks = "all" if one.get("all") else supervised
    return f"{one['method']}-{BACKBONE}-{masks}", f"{BASELINE}-{BACKBONE}-{supervised}"


def _answering(one: Mapping[str, Any], supervised: str) -> Iterator[tuple[str, str]]:
    """The runs whose difference answers its question, if it has one."""
    if "question" in one:
        a, b = one.get("a", OURS), one.get("b", one["method"])
        yield f"{a}-{BACKBONE}-{supervised}", f"{b}-{BACKBONE}-{supervised}"
