"""What Tables 1 to 3 have in common: ours, the paper's and their difference, line by line; gains
with their intervals; and what these can say. Frames have the columns `tables.cells.CELL`."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from study.analysis.estimate import Estimate
from study.format import MISSING, interval, number, signed, spread
from study.labels import DIFFERENCE, NOT_RUN
from study.report.blocks import Table
from study.report.render import say
from study.report.words import WORDS

WHOSE = "Whose"  # heads the column that says whose numbers a line has
QUOTED = "quoted"  # what the paper quotes of others
FEW = 30  # objects below which an AP says nothing and is not shown
_KINDS = {"ours": "ours", "paper": "paper", "ours − paper": "gap", QUOTED: QUOTED}


def value(row: pd.Series, text: str, digits: int = 1) -> str:
    """One of our numbers as `text`, with its spread over seeds where there are several."""
    return text + spread(row["sd"], digits)


def lines(
    head: Mapping[Any, str],
    cells: Mapping[Any, pd.Series],
    *,
    whose: Hashable = WHOSE,
    digits: int = 1,
    is_difference: bool = False,
) -> list[dict[Hashable, str]]:
    """A table's row for people, as lines: ours, the paper's if it has any, and their difference.

    Args:
        head: the leading columns, which the first line alone shows.
        cells: by column, rows of the frame; one of fewer than FEW objects shows their number.
        whose: the column that says whose numbers a line has.
        digits: of our numbers.
        is_difference: whether the row is one itself: a plus sign and no third line.
    """
    form = signed if is_difference else number
    few = {column: row.get("objects", FEW) < FEW for column, row in cells.items()}
    ours = {c: _ours(row, form, digits, few[c]) for c, row in cells.items()}
    published = {column: form(row["paper"]) for column, row in cells.items()}
    found = [{whose: "ours"} | ours]
    if any(pd.notna(row["paper"]) for row in cells.values()):
        found.append({whose: "paper"} | published)
    if not is_difference and any(r["seeds"] and pd.notna(r["paper"]) for r in cells.values()):
        gaps = {
            c: MISSING if few[c] else signed(row["ours_minus_paper"], digits)
            for c, row in cells.items()
        }
        found.append({whose: "ours − paper"} | gaps)
    return [dict(head) | found[0], *(dict.fromkeys(head, "") | line for line in found[1:])]


def _ours(row: pd.Series, form: Callable[..., str], digits: int, few: bool) -> str:
    if not row["seeds"]:
        return NOT_RUN
    return f"n = {row['objects']:.0f}" if few else value(row, form(row["ours"], digits), digits)


def line_table(found: Sequence[Mapping[Any, str]], caption: str, headers: int = 2) -> Table:
    """`lines` as a table: `headers` leading columns, then the one that says whose numbers."""
    columns = list(found[0])
    two_levels = isinstance(columns[0], tuple)
    frame = pd.DataFrame(
        found, columns=pd.MultiIndex.from_tuples(columns) if two_levels else columns
    )
    methods = frame.iloc[:, headers - 1].replace("", None).ffill()
    kinds = [
        ("difference " if method == DIFFERENCE else "") + _KINDS[whose]
        for whose, method in zip(frame.iloc[:, headers], methods, strict=True)
    ]
    return Table(frame, caption, headers, headers + 1, kinds)


def number_table(
    rows: pd.DataFrame,
    keys: Sequence[str],
    head: Callable[..., dict[str, str]],
    column: Callable[[pd.Series], tuple[str, str]],
    caption: str,
    digits: int = 1,
) -> Table:
    """The paper's rows and columns: `lines` of each group of `keys`, whose values `head` takes;
    `column` says below which two headings a number stands."""
    found = []
    for key, group in rows.groupby(list(keys), sort=False):
        cells = {column(row): row for _, row in group.iterrows()}
        first = {("", name): text for name, text in head(*key).items()}
        found += lines(first, cells, whose=("", WHOSE), digits=digits)
    return line_table(found, caption)


def gain_text(row: pd.Series) -> str:
    """`+1.20 (+0.40 to +2.00), paper +1.1`: a difference of ours with its 95 % interval."""
    text = NOT_RUN
    if row["seeds"]:
        text = f"{signed(row['ours'], 2)} ({interval(row['low'], row['high'])})"
    return text if pd.isna(row["paper"]) else f"{text}, paper {signed(row['paper'])}"


def gain_table(
    rows: pd.DataFrame,
    keys: Sequence[str],
    name: Callable[..., dict[str, str]],
    column: Callable[[pd.Series], str],
) -> Table:
    """Differences in AP, a line a group of `keys`, whose values `name` takes."""
    found = []
    for key, group in rows.groupby(list(keys), sort=False):
        line = name(*key)
        headers = len(line)
        found.append(line | {column(row): gain_text(row) for _, row in group.iterrows()})
    caption = "Differences in AP with their 95 % intervals"
    return Table(pd.DataFrame(found), caption, headers, headers, wrap=True)


def tally(rows: pd.DataFrame) -> str:
    """Where several intervals lie: `interval above 0 in 3 of 4, including 0 in 1`."""
    return say("tally", Counter(Estimate.of(row, "ours").side_of() for _, row in rows.iterrows()))


def caveats(scale: str, seeds: Sequence[int]) -> str:
    """What intervals, seeds and a scale can and cannot say."""
    return " ".join(caveat_items(scale, seeds))


def caveat_items(scale: str, seeds: Sequence[int]) -> list[str]:
    """`caveats`, a kind each."""
    ran = [count for count in seeds if count]
    parts = {
        "one_seed": set(ran) == {1},
        "mixed_seeds": 1 in ran and max(ran) > 1,
        "several_seeds": ran and min(ran) > 1,
        "images": True,
        "scale": scale != "coco",
    }
    return [
        WORDS["caveats"][name].format(seeds=max(ran, default=0))
        for name, says in parts.items()
        if says
    ]
