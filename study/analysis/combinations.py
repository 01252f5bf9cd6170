"""Which combination of OPMask with another system is best: never chosen on validation images.

Suite `combinations` trains each once, with a seed that no result is of, and measures it at its end
on training images that were held out. Best is the highest mean over both directions.
"""

import pandas as pd

from study.labels import DIRECTIONS

SCHEDULE = (
    "held_out"  # of paper.yaml: 130k, but images are held out and the end is measured on them
)
_PARTS = {"value": "", "low": "_low", "high": "_high"}
COLUMNS = ["method", *(f"{one}{part}" for one in DIRECTIONS for part in _PARTS.values()),
           "mean", "seed", "chosen"]  # fmt: skip


def combinations_table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row a method that was trained in both directions, best first; the first is chosen.

    Args:
        curves: of `held_out.read_curves`.

    Returns:
        Columns: method; nonvoc and voc (mask AP of novel classes on the held-out images, percent,
        mean over seeds), each with _low and _high (95 %, over these images; NaN of several seeds);
        mean, of both; seed, as text; chosen.
    """
    rows = curves[(curves["schedule"] == SCHEDULE) & (curves["classes"] == "novel")]
    rows = rows[(rows["task"] == "segm") & (rows["metric"] == "AP")]
    rows = rows[rows["iteration"] == rows["iteration"].max()]
    found = []
    for method, own in rows.groupby("method", sort=False):
        sides = {side: part for side, part in own.groupby("supervised") if side in DIRECTIONS}
        if len(sides) < len(DIRECTIONS):
            continue
        one = {"method": method, "seed": ", ".join(map(str, sorted(own["seed"].unique())))}
        for side, part in sides.items():
            alone = len(part) == 1
            one |= {
                f"{side}{end}": part[column].mean() if alone or column == "value" else float("nan")
                for column, end in _PARTS.items()
            }
        found.append(one | {"mean": sum(one[side] for side in DIRECTIONS) / len(DIRECTIONS)})
    table = pd.DataFrame(found, columns=COLUMNS).sort_values(
        "mean", ascending=False, ignore_index=True
    )
    return table.assign(chosen=table.index == 0)
