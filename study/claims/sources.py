"""Where the claims' numbers come from: cells out of the tables of `reports/<scale>/`.

A table that is not there gives cells without value: not run. A row that is not there is an error: a
stage writes a row for every number, also for those that were not run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opmask.errors import UserError
from study.analysis import noise
from study.analysis.class_points import class_points
from study.analysis.estimate import IMAGES, NOTHING, Estimate, Noise, minus
from study.labels import DIRECTIONS, MODELS

OURS, PAPERS, DEFINITION = "our runs", "the paper's own numbers", "definitions and COCO's boxes"
KINDS = (OURS, PAPERS, DEFINITION)
RANK, COST = "rank", "weights; percent"
OF_REPORT = "of this report"
COUNTS = (RANK, COST, "times")  # units without a sign
_WORDS = {"method": MODELS, "minus_method": MODELS}  # for values, by column


@dataclass
class Table:
    """A csv file below `reports/<scale>/`, read when asked for.

    schedule: the global one, of the runs without a schedule of their own. tables: where it and
    others lie. origin: whose trainings it is of, in words.
    """

    path: Path
    schedule: str
    tables: "Tables | None" = None
    origin: str = OF_REPORT

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

    def with_rows(self, **wanted: str) -> "Table":
        """This table, or else that of the same name of an experiment at its scale, whichever has
        such rows; one that is not there if none has."""
        source = f"{self.path.parent.name}/{self.path.name}"
        tables = self.tables.repeated(source) if self.tables else [self]
        found = (one for one in tables if not one.rows(**wanted).empty)
        return next(found, Table(self.path / "none", self.schedule, self.tables))

    def error(self, what: str) -> UserError:
        """That something is wrong with this file."""
        return UserError(f"{self.path}: {what}; repeat its stage")


class Tables:
    """The csv files below `folder` (`reports/<scale>`); `schedule` is the global one."""

    def __init__(self, folder: Path, schedule: str = "130k") -> None:
        self.folder, self.schedule = folder, schedule
        self._known: dict[Path, Table] = {}

    def table(self, source: str) -> Table:
        """For example of `tables/table1.csv`."""
        return self._at(self.folder / source, OF_REPORT)

    def repeated(self, source: str) -> list[Table]:
        """Where to look for trainings with several seeds: the table, then those of the same name
        of the scale's experiments (`reports/experiments/*`, with a `gains.csv` of it)."""
        found = [self.table(source)]
        for gains in sorted(self.folder.parent.glob("experiments/*/gains.csv")):
            if (pd.read_csv(gains)["scale"] == self.folder.name).all():
                path, origin = gains.with_name(Path(source).name), f"experiment {gains.parent.name}"
                found += [self._at(path, origin)] if path.is_file() else []
        return found

    def _at(self, path: Path, origin: str) -> Table:
        return self._known.setdefault(path, Table(path, self.schedule, self, origin))


def with_noise(
    cell: Estimate, table: Table, statistic: Callable[[pd.DataFrame], float]
) -> Estimate:
    """The cell, which is the mean of a statistic over seeds, with what that varies by over them.

    statistic: of the rows of `per_class.csv` of one seed; NaN where it lacks what is needed.
    """
    for one in table.tables.repeated("tables/per_class.csv") if table.tables and cell.ran else []:
        rows = one.rows(["AP"], ["seed"], schedule=table.schedule)
        values = [statistic(of_seed) for _, of_seed in rows.groupby("seed")]
        values = [value for value in values if not np.isnan(value)]
        found = noise.of_values(values, f"{len(values)} trainings of each, {one.origin}")
        if found.known:
            seeds = len(values) if one.origin == OF_REPORT else cell.seeds
            return replace(cell, noise=found, seeds=seeds)
    return cell


def points_of(table: Table, per_class: pd.DataFrame) -> pd.DataFrame:
    """The points of Figure 3 from other trainings; `table` is figure3.csv, whose overlap counts."""
    overlap = table.rows(["category_id", "iou"], ["category"])
    return class_points(per_class, overlap, "iou")


@dataclass(frozen=True)
class Pool:
    """Rows of differences whose spread over seeds stands for a cell's: several seeds, the same as
    the cell's row in the columns `alike`, and one of the values in `where`.

    source: of which table, the cell's own if empty. once: of `noise.of_rows`.
    """

    alike: Sequence[str] = ()
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    source: str = ""
    once: Sequence[str] = ()

    def of(self, rows: pd.DataFrame, origin: str, row: Mapping[str, Any]) -> Noise:
        """What `rows` say of the difference that `row` is; unknown where none is such."""
        keep = np.ones(len(rows), dtype=bool)
        for column, values in {**{c: [row[c]] for c in self.alike}, **self.where}.items():
            keep &= rows[column].isin(values).to_numpy()
        return noise.of_rows(rows[keep], origin, self.once)

    def noise(self, table: Table, row: Mapping[str, Any]) -> Iterator[Noise]:
        """The same of each table that may have such rows."""
        source = self.source or f"{table.path.parent.name}/{table.path.name}"
        for one in table.tables.repeated(source) if table.tables else []:
            columns = [*self.alike, *self.where, *self.once]
            yield self.of(one.rows(["sd", "seeds"], columns), one.origin, row)


@dataclass(frozen=True)
class Rows:
    """Cells that are rows of one table: `evidence.yaml` says what the fields mean."""

    value: str
    cell: str
    rows: Mapping[str, str | Sequence[str]]
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    less: dict[str, str] = field(default_factory=dict)
    same: str = ""
    turned: bool = False
    factor: float = 1.0
    over: str = IMAGES
    several: bool = False
    optional: bool = False
    anywhere: bool = False
    times: float = 1.0
    noise: Sequence[Mapping[str, Any]] = ()

    def __call__(self, table: Table, **chosen: str | Sequence[str]) -> Iterator[Estimate]:
        """The cells; `chosen` are `rows` besides those declared."""
        wanted = {**self.rows, **chosen}
        each = [[one] if isinstance(one, str) else one for one in wanted.values()]
        for values in product(*each):
            where = dict(zip(wanted, values, strict=True))
            of = table.with_rows(**where) if self.anywhere else table
            if self.optional and of.rows(**where).empty:
                continue
            cell = self._one(of, where)
            if self.less:
                cell = self._difference(of, cell, where, where | self.less)
            yield (-cell if self.turned else cell).scaled(self.factor)

    def _one(self, table: Table, where: dict[str, str]) -> Estimate:
        open_which = self.several and len(table.rows(**where)) > 1
        row = None if open_which else table.row([self.value], **where)
        if row is None:
            return Estimate(self._name(table, where))
        cell = Estimate.of(row, self.value, self._name(table, row | where), over=self.over)
        return replace(cell, noise=self._noise(table, row)) if cell.ran else cell

    def _noise(self, table: Table, row: Mapping[str, Any]) -> Noise:
        pools = (Pool(**declared) for declared in self.noise)
        found = chain.from_iterable(pool.noise(table, row) for pool in pools)
        return next((one for one in found if one.known), Noise())

    def _difference(
        self, table: Table, cell: Estimate, where: dict[str, str], other: dict[str, str]
    ) -> Estimate:
        less = self._one(table, other)
        less = replace(less.scaled(self.times), paper=self.times * less.paper)
        found = minus(cell.name, cell, less)
        if found.ran and self.same:
            same = (table.rows([self.same], **key)[self.same].item() for key in (where, other))
            found = replace(found, low=0.0, high=0.0, over=NOTHING) if len({*same}) == 1 else found
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
