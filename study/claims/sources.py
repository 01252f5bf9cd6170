"""Where the claims' numbers come from: cells out of the tables of `reports/<scale>/`.

A file or a row that is not there gives a cell without value: not run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from opmask.errors import UserError
from study.claims.rules import NAN, Cell

IMAGES = "paired bootstrap over validation images"
JOINED = "the two joined by the square-and-add rule"
CLASSES = "classes"
OURS, PAPERS, DEFINITION = "our runs", "the paper's own numbers", "definitions and COCO's boxes"
KINDS = (OURS, PAPERS, DEFINITION)
RANK, COST = "rank", "weights; percent"
COUNTS = (RANK, COST)  # units without a sign


@dataclass(frozen=True)
class Evidence:
    """Where the numbers are from, how their intervals came about, in which unit, and the cells."""

    source: str
    test: str
    unit: str
    cells: Callable[["Tables"], list[Cell]]
    kind: str = OURS


class Tables:
    """The csv files below `reports/<scale>/`, by name, e.g. `tables/table1`.

    Args:
        folder: `reports/<scale>`.
        schedule: the global one, of the runs without a schedule of their own.
    """

    def __init__(self, folder: Path, schedule: str = "130k"):
        self.folder, self.schedule = folder, schedule
        self._read = cache(self._load)

    def rows(self, name: str, columns: Sequence[str] = (), /, **wanted: str) -> pd.DataFrame:
        """The rows where each column of `wanted` has its value; none if there is no such file.

        `columns` are needed besides; UserError if the file lacks one.
        """
        table = self._read(name)
        if table is None:
            return pd.DataFrame(columns=[*wanted, *columns])
        for column in (*wanted, *columns):
            if column not in table:
                path = self.folder / f"{name}.csv"
                raise UserError(f"{path}: column {column!r} is missing; repeat its stage")
        keep = np.ones(len(table), dtype=bool)
        for column, value in wanted.items():
            keep &= (table[column].astype(str) == value).to_numpy()
        return table[keep]

    def _load(self, name: str) -> pd.DataFrame | None:
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            return None
        try:
            # a blank text stays a text, and a class may well be called "NA"
            return pd.read_csv(path, keep_default_na=False)
        except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
            raise UserError(f"{path}: not a csv table ({error}); repeat its stage") from error


def numeric(values: pd.Series) -> pd.Series:
    """A column of a csv as numbers, NaN where blank."""
    return pd.to_numeric(values, errors="coerce").astype(float)


def number(value: object) -> float:
    """A cell of a csv as a number; NaN if blank."""
    return float(pd.to_numeric(value, errors="coerce"))


def one(name: str, rows: pd.DataFrame, value: str, **constant: object) -> Cell:
    """The cell of the only row in `rows`, by the usual columns; without value if there is none."""
    if len(rows) != 1:
        return Cell(name)
    row = rows.iloc[0]
    fields = {key: number(row[key]) for key in ("low", "high", "sd", "paper", "p") if key in row}
    seeds = number(row["seeds"]) if "seeds" in row else NAN
    fields["seeds"] = 0 if math.isnan(seeds) else int(seeds)
    return Cell(name, number(row[value]), **fields | constant)


def minus(name: str, a: Cell, b: Cell) -> Cell:
    """a - b from the intervals of both, by the square-and-add rule (Zou and Donner 2008).

    It takes them for independent. They share images, which makes the interval too wide rather than
    too narrow.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    seeds = min(a.seeds, b.seeds)
    return Cell(name, value, low, high, seeds=seeds, paper=a.paper - b.paper, over=a.over)


def mean_over_classes(name: str, values: pd.Series, seeds: int = 0) -> Cell:
    """Mean with Student's interval over classes; NaN in `values` left out."""
    values = values.dropna().astype(float)
    if len(values) < 2:
        return Cell(name)
    half = stats.t.isf(0.025, len(values) - 1) * values.std() / math.sqrt(len(values))
    mean = float(values.mean())
    return Cell(name, mean, mean - half, mean + half, seeds=seeds, over=CLASSES)


def correlation(name: str, x: pd.Series, y: pd.Series, over: str, **fields: object) -> Cell:
    """Pearson's r with Fisher's interval; without value below four pairs."""
    known = pd.DataFrame({"x": x.to_numpy(), "y": y.to_numpy()}).astype(float).dropna()
    if len(known) < 4 or known.nunique().min() < 2:
        return Cell(name, **fields)
    found = stats.pearsonr(known["x"], known["y"])
    low, high = found.confidence_interval()
    value = float(found.statistic)
    return Cell(name, value, low, high, p=float(found.pvalue), over=over, **fields)
