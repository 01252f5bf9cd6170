"""Other systems retrained on the paper's base: who is better than whom, and at what cost.

Of every method both differences that matter are tested, its gain over the common baseline and what
OPMask has more than it; in mask AP of detections and in mask IoU in true boxes, in both directions,
with the noise between trainings (`study.analysis.estimate`), and corrected for all of them (Holm).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from study import paper
from study.analysis.contrasts import CONTRASTS, Contrast
from study.analysis.controls import MEASURES
from study.analysis.declared import load
from study.analysis.estimate import NAN, Estimate
from study.labels import BASELINE, DIRECTIONS, OURS
from study.spec.run import Run

BACKBONE = "R50"
RIVALS: Sequence[Mapping[str, Any]] = load("rivals")
_METHODS = (BASELINE, OURS, *(one["method"] for one in RIVALS))
TIMES = {"training": "ratio", "test": "test_ratio"}  # times the baseline's, of benchmark `costs`
_PAIRS = {"gain": BASELINE, "behind": OURS}  # by column: what it is compared with
COLUMNS = ["supervised", "method", "task", "value",
           *(f"{pair}{part}" for pair in _PAIRS for part in ("", "_low", "_high", "_p", "_p_holm")),
           "seeds", "quoted", "parameters"]  # fmt: skip


def rival_contrasts(
    runs: Sequence[Run], declared: Collection[Contrast] = CONTRASTS
) -> tuple[Contrast, ...]:
    """The contrasts that the table needs, but the declared; none unless a rival is among `runs`."""
    made = {f"{run.method}-{run.backbone}-{run.supervised}" for run in runs}
    known, found = {(one.a, one.b) for one in declared}, []
    for rival in RIVALS if _has_rivals(run.method for run in runs) else ():
        for supervised in DIRECTIONS:
            own, baseline, ours = (
                f"{method}-{BACKBONE}-{supervised}" for method in (rival["method"], BASELINE, OURS)
            )
            for a, b in ((own, baseline), (ours, own)):
                if {a, b} <= made and (a, b) not in known:
                    name = f"{a.removesuffix(f'-{BACKBONE}-{supervised}')} over {b}"
                    found.append(Contrast(name, "Other systems", a, b, "novel", ""))
    return tuple(found)


def has_rivals(contrasts: pd.DataFrame) -> bool:
    """Whether some of contrasts.csv are of another system that was run."""
    ran = contrasts.loc[contrasts["difference"].notna(), "a"]
    return _has_rivals(name.partition("-")[0] for name in ran)


def rivals_table(contrasts: pd.DataFrame, millions: Mapping[str, float]) -> pd.DataFrame:
    """A row a measure of a method in a direction, best first; empty if no rival was run.

    Args:
        contrasts: contrasts.csv. millions: of parameters, by method.

    Returns:
        Columns: supervised, method, task (segm: mask AP | oracle: mask IoU in true boxes), value
        (percent, novel classes, mean over seeds); gain over the baseline, behind: what OPMask has
        more; each with _low, _high (95 %, over images and trainings), _p and _p_holm (over all
        gains and distances of this task); seeds; quoted (AP of Table 1, R-50, on COCO); parameters.
    """
    if not has_rivals(contrasts):
        return pd.DataFrame(columns=COLUMNS)
    ran = contrasts[contrasts["difference"].notna()]
    rows = {(row["task"], row["a"], row["b"]): row for row in ran.to_dict("records")}
    table = pd.DataFrame(
        [
            {"supervised": supervised, "method": method, "task": task}
            | _compared(rows, task, method, supervised)
            | {"quoted": _quoted(method, supervised), "parameters": millions.get(method, NAN)}
            for supervised in DIRECTIONS
            for task in MEASURES
            for method in _METHODS
        ],
        columns=COLUMNS,
    ).dropna(subset="value")
    for task in MEASURES:
        _correct(table, table["task"] == task)
    order = ["supervised", "task", "value"]
    return table.sort_values(order, ascending=[True, False, False], ignore_index=True)


def with_times(table: pd.DataFrame, costs: pd.DataFrame | None) -> pd.DataFrame:
    """`rivals_table` with TIMES; `costs` is `costs.csv` of `python -m benchmarks costs`, None or
    without a method: NaN."""
    times = pd.DataFrame() if costs is None or costs.empty else costs.set_index("variant")
    known = {name: times.get(column, {}) for name, column in TIMES.items()}
    return table.assign(
        **{name: [float(one.get(m, NAN)) for m in table["method"]] for name, one in known.items()}
    )


def _compared(
    rows: Mapping[tuple[str, str, str], Mapping[Any, Any]], task: str, method: str, supervised: str
) -> dict[str, Any]:
    """Its value, and what it is compared with; the baseline's own is in OPMask's gain."""
    found: dict[str, Any] = {"value": NAN}
    for pair, other in _PAIRS.items():
        ends = (method, other) if pair == "gain" else (other, method)
        a, b = (f"{one}-{BACKBONE}-{supervised}" for one in ends)
        row = rows.get((task, a, b))
        if row:
            side = "value_a" if ends[0] == method else "value_b"
            known = Estimate.of(row, "difference")
            whole = known.whole()
            found |= {"value": row[side], "seeds": known.seeds, pair: known.value}
            found |= {f"{pair}_low": whole.low, f"{pair}_high": whole.high}
            found |= {f"{pair}_p": known.p_against()}
    return found


def _correct(table: pd.DataFrame, rows: pd.Series) -> None:
    """Holm over all p of `rows`, in place. OPMask's gain is the baseline's distance: one test."""
    columns = [f"{pair}_p" for pair in _PAIRS]
    p = table.loc[rows, columns].to_numpy(dtype=float, copy=True)
    p[(table.loc[rows, "method"] == BASELINE).to_numpy(), 1] = np.nan
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    table.loc[rows, [f"{column}_holm" for column in columns]] = p


def _quoted(method: str, supervised: str) -> float:
    names = {one["method"]: one.get("row") for one in RIVALS} | {OURS: "OPMask"}
    table = paper.load("table1").query(f"backbone == '{BACKBONE}'")
    found = table[
        (table["method"] == names.get(method, "Our Mask R-CNN" if method == BASELINE else None))
        & (table["supervised"] == supervised)
    ]["AP"]
    return float(found.iloc[0]) if len(found) else NAN


def _has_rivals(methods: Collection[str] | Any) -> bool:
    return not {one["method"] for one in RIVALS}.isdisjoint(methods)
