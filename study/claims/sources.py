"""Where the claims' numbers come from: cells out of the tables of `reports/<scale>/`.

A table that is not there gives cells without value: not run. A row that is not there is an error: a
stage writes a row for every number, also for those that were not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opmask.errors import UserError
from study.analysis.estimate import IMAGES, Estimate, minus
from study.labels import DIRECTIONS, MODELS

OURS, PAPERS, DEFINITION = "our runs", "the paper's own numbers", "definitions and COCO's boxes"
KINDS = (OURS, PAPERS, DEFINITION)
RANK, COST = "rank", "weights; percent"
COUNTS = (RANK, COST)  # units without a sign
_WORDS = {"method": MODELS, "minus_method": MODELS}  # for values, by column


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
            raise self.error(f"not a csv table ({error})") from error

    def rows(
        self, numbers: Sequence[str] = (), texts: Sequence[str] = (), /, **wanted: str
    ) -> pd.DataFrame:
        """The rows where each column of `wanted` has its value; none if there is no such file.

        `numbers`, NaN where blank, and `texts` are columns needed besides; UserError if the file
        lacks one.
        """
        needed = [*wanted, *numbers, *texts]
        if self.frame is None:
            return pd.DataFrame(columns=needed)
        for column in needed:
            if column not in self.frame:
                raise self.error(f"column {column!r} is missing")
        keep = np.ones(len(self.frame), dtype=bool)
        for column, value in wanted.items():
            keep &= (self.frame[column].astype(str) == value).to_numpy()
        rows = self.frame[keep]
        return rows.assign(**{c: pd.to_numeric(rows[c], errors="coerce") for c in numbers})

    def row(self, numbers: Sequence[str] = (), /, **wanted: str) -> dict[str, Any] | None:
        """The only such row, None if there is no such file; UserError unless it is one."""
        rows = self.rows(numbers, **wanted)
        if self.frame is None:
            return None
        if len(rows) != 1:
            where = ", ".join(f"{column} {value!r}" for column, value in wanted.items())
            raise self.error(f"{len(rows)} rows with {where}, not one")
        return rows.iloc[0].to_dict()

    def error(self, what: str) -> UserError:
        """That something is wrong with this file."""
        return UserError(f"{self.path}: {what}; repeat its stage")


class Tables:
    """The csv files below `folder` (`reports/<scale>`); `schedule` is the global one."""

    def __init__(self, folder: Path, schedule: str = "130k"):
        # for example of `tables/table1.csv`
        self.table = cache(lambda source: Table(folder / source, schedule))


@dataclass(frozen=True)
class Rows:
    """Cells that are rows of one table: `evidence.yaml` says what the fields mean."""

    value: str
    cell: str
    rows: Mapping[str, str | Sequence[str]]
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    less: dict[str, str] = field(default_factory=dict)
    same: str = ""
    needed: dict[str, str] = field(default_factory=dict)
    turned: bool = False
    factor: float = 1.0
    over: str = IMAGES
    several: bool = False

    def __call__(self, table: Table, **chosen: str | Sequence[str]) -> Iterator[Estimate]:
        """The cells; `chosen` are `rows` besides those declared."""
        wanted = {**self.rows, **chosen}
        each = [[one] if isinstance(one, str) else one for one in wanted.values()]
        for values in product(*each):
            where = dict(zip(wanted, values, strict=True))
            cell, needed = self._one(table, where), self._one(table, where | self.needed)
            if self.needed and needed.seeds and not needed.ran:
                continue
            if self.less:
                cell = self._difference(table, cell, where, where | self.less)
            yield (-cell if self.turned else cell).scaled(self.factor)

    def _one(self, table: Table, where: dict[str, str]) -> Estimate:
        open_which = self.several and len(table.rows(**where)) > 1
        row = None if open_which else table.row([self.value], **where)
        if row is None:
            return Estimate(self._name(table, where))
        return Estimate.of(row, self.value, self._name(table, row | where), over=self.over)

    def _difference(
        self, table: Table, cell: Estimate, where: dict[str, str], other: dict[str, str]
    ) -> Estimate:
        found = minus(cell.name, cell, self._one(table, other))
        if found.ran and self.same:
            same = (table.rows([self.same], **key)[self.same].item() for key in (where, other))
            found = replace(found, low=0.0, high=0.0) if len({*same}) == 1 else found
        return found

    def _name(self, table: Table, row: dict[str, Any]) -> str:
        words = _WORDS | self.words
        known = {column: words.get(column, {}).get(value, value) for column, value in row.items()}
        known["direction"] = DIRECTIONS.get(row.get("supervised", ""))
        try:
            return self.cell.format_map(known)
        except KeyError as error:
            if table.frame is None:
                return ", ".join(row.values())
            raise table.error(f"column {error} is missing") from error
