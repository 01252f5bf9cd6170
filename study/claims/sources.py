"""Where the claims' numbers come from: cells out of the tables of `reports/<scale>/`.

A table that is not there gives cells without value: not run. A row that is not there is an error: a
stage writes a row for every number, also for those that were not run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import numpy as np
import pandas as pd

from opmask.errors import UserError
from study.analysis.estimate import Estimate

IMAGES = "paired bootstrap over validation images"
JOINED = "the two joined by the square-and-add rule"
OURS, PAPERS, DEFINITION = "our runs", "the paper's own numbers", "definitions and COCO's boxes"
KINDS = (OURS, PAPERS, DEFINITION)
RANK, COST = "rank", "weights; percent"
COUNTS = (RANK, COST)  # units without a sign

P = ParamSpec("P")


@dataclass
class Table:
    """A csv file below `reports/<scale>/`, read when asked for.

    schedule: the global one, of the runs without a schedule of their own.
    """

    path: Path
    schedule: str

    @cached_property
    def frame(self) -> pd.DataFrame | None:
        """Its content, None if there is no such file."""
        if not self.path.is_file():
            return None
        try:
            # a blank text stays a text, and a class may well be called "NA"
            return pd.read_csv(self.path, keep_default_na=False)
        except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
            raise self._error(f"not a csv table ({error})") from error

    def rows(self, columns: Sequence[str] = (), /, **wanted: str) -> pd.DataFrame:
        """The rows where each column of `wanted` has its value; none if there is no such file.

        `columns` are needed besides; UserError if the file lacks one.
        """
        if self.frame is None:
            return pd.DataFrame(columns=[*wanted, *columns])
        for column in (*wanted, *columns):
            if column not in self.frame:
                raise self._error(f"column {column!r} is missing")
        keep = np.ones(len(self.frame), dtype=bool)
        for column, value in wanted.items():
            keep &= (self.frame[column].astype(str) == value).to_numpy()
        return self.frame[keep]

    def row(self, columns: Sequence[str] = (), /, **wanted: str) -> pd.Series | None:
        """The only such row, None if there is no such file; UserError unless it is one."""
        rows = self.rows(columns, **wanted)
        if self.frame is None:
            return None
        if len(rows) != 1:
            where = ", ".join(f"{column} {value!r}" for column, value in wanted.items())
            raise self._error(f"{len(rows)} rows with {where}, not one")
        return rows.iloc[0]

    def cell(self, label: str, value: str, /, **wanted: str) -> Estimate:
        """The number `value` of the only such row, called `label`; see `row`."""
        row = self.row([value], **wanted)
        return Estimate(label) if row is None else Estimate.of(row, value, label)

    def _error(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; repeat its stage")


class Tables:
    """The csv files below `folder` (`reports/<scale>`); `schedule` is the global one."""

    def __init__(self, folder: Path, schedule: str = "130k"):
        self.folder, self.schedule = folder, schedule
        self._tables: dict[str, Table] = {}

    def table(self, source: str) -> Table:
        """For example of `tables/table1.csv`."""
        return self._tables.setdefault(source, Table(self.folder / source, self.schedule))


@dataclass(frozen=True)
class Evidence:
    """Where the numbers are from, how their intervals came about, in which unit, and the cells."""

    source: str
    test: str
    unit: str
    cells: Callable[[Tables], Sequence[Estimate]]
    kind: str = OURS


FUNCTIONS: dict[str, Callable[..., Evidence]] = {}  # what `evidence` decorates, by name


def evidence(
    source: str, test: str = IMAGES, unit: str = "AP", kind: str = OURS
) -> Callable[[Callable[Concatenate[Table, P], Iterator[Estimate]]], Callable[P, Evidence]]:
    """Makes of a function that yields cells from a table, `source`, one that declares them."""

    def decorate(
        cells: Callable[Concatenate[Table, P], Iterator[Estimate]],
    ) -> Callable[P, Evidence]:
        @wraps(cells)
        def declare(*args: P.args, **kwargs: P.kwargs) -> Evidence:
            def read(tables: Tables) -> list[Estimate]:
                return list(cells(tables.table(source), *args, **kwargs))

            return Evidence(source, test, unit, read, kind)

        FUNCTIONS[cells.__name__] = declare
        return declare

    return decorate


def numeric(values: pd.Series) -> pd.Series:
    """A column of a csv as numbers, NaN where blank."""
    found: Any = pd.to_numeric(values, errors="coerce")
    return found.astype(float)
