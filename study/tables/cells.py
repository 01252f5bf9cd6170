"""What Tables 1 to 3 are made of: one number of ours beside the paper's, and differences of two.

In a tidy frame a number is the columns CELL; on a page it is up to three lines (`lines`).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from study import format as markdown
from study.analysis.estimate import NAN, Estimate
from study.format import interval
from study.labels import NOT_RUN

CELL = ["ours", "sd", "seeds", "low", "high", "paper", "ours_minus_paper"]
SOURCE = ""  # heads the column that says whose numbers a line has


def cell(values: pd.Series, published: float = NAN) -> Estimate:
    """One number of ours, from its `values` by training seed: without interval."""
    mean, sd = float(values.mean()), float(values.std())
    return Estimate(value=mean, sd=sd, seeds=len(values), paper=float(published))


def difference(
    a: pd.Series, b: pd.Series, published: float = NAN, gain: Estimate | None = None
) -> Estimate:
    """a − b, each by training seed; `gain` gives the interval.

    The spread is over equal seeds, which share initialisation and image order.
    """
    both = a.index.intersection(b.index)
    found = replace(cell(a[both] - b[both], published), value=float(a.mean() - b.mean()))
    return replace(found, low=gain.low, high=gain.high) if gain else found


def as_columns(one: Estimate) -> dict[str, float]:
    """The columns CELL: ours, sd (over seeds; NaN for one), seeds (0 = not run), low and high (95 %
    interval), paper, ours_minus_paper."""
    values = one.value, one.sd, one.seeds, one.low, one.high, one.paper, one.value - one.paper
    return dict(zip(CELL, values, strict=True))


def by_seed(per_class: pd.DataFrame, metric: str = "AP") -> pd.Series:
    """`metric` of a class subset, percent, by seed, from the per-class rows of one method."""
    return per_class.groupby("seed")[metric].mean()


def value(row: pd.Series, text: str, digits: int = 1) -> str:
    """One of our numbers as `text`, with its spread over seeds where there are several."""
    if row["seeds"] > 1:
        text += f" ± {row['sd']:.{digits}f}"
    return text


def lines(
    head: Mapping[Hashable, str],
    cells: Mapping[Hashable, pd.Series],
    *,
    source: Hashable = SOURCE,
    digits: int = 1,
    signed: bool = False,
) -> list[dict]:
    """A table's row for people, as lines: ours, the paper's, and the difference of the two.

    Args:
        head: the leading columns, which the first line alone shows.
        cells: by column, rows with the columns CELL.
        source: the column that says whose numbers a line has.
        digits: of our numbers.
        signed: whether the row is a difference, with a plus sign and no third line.
    """
    form = markdown.signed if signed else markdown.number
    ours = {
        column: value(row, form(row["ours"], digits), digits) if row["seeds"] else NOT_RUN
        for column, row in cells.items()
    }
    published = {column: form(row["paper"]) for column, row in cells.items()}
    found = [{source: "ours"} | ours, {source: "paper"} | published]
    if not signed and any(row["seeds"] and pd.notna(row["paper"]) for row in cells.values()):
        gaps = {c: markdown.signed(row["ours_minus_paper"], digits) for c, row in cells.items()}
        found.append({source: "ours − paper"} | gaps)
    return [dict(head) | found[0], *(dict.fromkeys(head, "") | line for line in found[1:])]


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its two levels of columns in one, for Markdown."""
    return frame.set_axis([": ".join(filter(None, column)) for column in frame.columns], axis=1)


def gain_text(row: pd.Series) -> str:
    """`+1.20 (+0.40 to +2.00)`: a difference of ours with its 95 % interval."""
    if not row["seeds"]:
        return NOT_RUN
    return f"{markdown.signed(row['ours'], 2)} ({interval(row['low'], row['high'])})"


def tally(rows: pd.DataFrame) -> str:
    """Where several intervals lie: `interval above 0 in 3 of 4, including 0 in 1`."""
    ran = rows[rows["low"].notna()]
    if ran.empty:
        return NOT_RUN
    above, below = int((ran["low"] > 0).sum()), int((ran["high"] < 0).sum())
    counts = {"above 0": above, "including 0": len(ran) - above - below, "below 0": below}
    words = [f"{word} in {count}" for word, count in counts.items() if count]
    words[0] += f" of {len(ran)}"
    return f"interval {', '.join(words)}"


def caveats(scale: str, seeds: Sequence[int]) -> str:
    """What intervals, seeds and a scale can and cannot say."""
    texts = [
        "The interval is a paired bootstrap over validation images, each row by itself (not "
        "corrected for several rows). It says what other images would have given, not what "
        "another training would."
    ]
    if 1 in seeds:
        texts.append(
            "With one seed the noise between trainings is not measured; on COCO the mask AP of "
            "identical Mask R-CNN runs varies by about 0.1 (standard deviation)."
        )
    if scale != "coco":
        texts.append(
            "Data, image size and schedule are not the paper's at this scale: **its absolute "
            "numbers are context, not a target**. What can be compared is the sign of the gain."
        )
    return " ".join(texts)
