"""What the pages are written from: the files of `reports/<scale>/` and what the stages recorded.

Whatever is not there is left out of the pages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.errors import UserError
from opmask.integrity import verified
from study.spec.paths import LOSSES, PROVENANCE, Paths
from study.spec.results import read_json, read_per_class, read_provenance, summarise
from study.spec.run import Run


@dataclass(frozen=True)
class TrainedRun:
    """One finished training: its `provenance.json` and its loss curves by name.

    A curve has the columns step (iterations done) and value.
    """

    run: Run
    provenance: Mapping[str, Any]
    losses: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Inputs:
    """tables and figure_data: csv files by stem; pictures: figures as PNG by stem; claims: the
    ledger, None if there is none; trained: the runs that were made, in the order of params.yaml;
    summary: of `results.summarise`, all runs; provenance: of `results.read_provenance`; splits and
    manifest: the stages' JSON, empty if absent; credits: of the embedded data's drawings, or empty;
    deepened: backbones whose warm start begins with another's weights; experiments: by name those
    of several seeds at this scale, their `gains.csv`; repeated: their `contrasts.csv`; command:
    makes this report anew.
    """

    scale: str
    schedule: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figure_data: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    claims: pd.DataFrame | None = None
    trained: Sequence[TrainedRun] = ()
    summary: pd.DataFrame | None = None
    provenance: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    splits: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    credits: str = ""
    deepened: Mapping[str, str] = field(default_factory=dict)
    experiments: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    repeated: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    command: str = ""

    @property
    def has_paper_classes(self) -> bool:
        """Whether the paper's splits, and so its tables, apply to the data set."""
        return not self.splits or "voc" in self.splits


def read_inputs(paths: Paths, schedule: str, runs: Sequence[Run]) -> Inputs:
    """Everything that the pages show of the scale of `paths`, but what params.yaml says of it.

    Raises UserError for a csv or json that cannot be read.
    """
    claims, drawings = paths.reports / "claims.csv", paths.data / "CREDITS.txt"
    return Inputs(
        scale=paths.scale,
        schedule=schedule,
        tables=read_all(paths.tables),
        figure_data=read_all(paths.figures),
        pictures={path.stem: path for path in sorted(paths.figures.glob("*.png"))},
        claims=read_csv(claims) if claims.is_file() else None,
        trained=read_trained(paths.train, runs),
        summary=summarise(read_per_class(paths.runs, runs)),
        provenance=read_provenance(paths.runs, runs),
        splits=read_json(paths.splits),
        manifest=read_json(paths.manifest),
        credits=drawings.read_text(encoding="utf-8") if drawings.is_file() else "",
        experiments=read_experiments(paths.all_reports).get(paths.scale, {}),
        repeated=read_repeated(paths),
    )


def read_repeated(paths: Paths, name: str = "contrasts") -> dict[str, pd.DataFrame]:
    """`<name>.csv` of the scale's experiments that have it, by experiment."""
    folders = (
        paths.all_reports / "experiments" / one
        for one in read_experiments(paths.all_reports).get(paths.scale, {})
    )
    files = {folder.name: folder / f"{name}.csv" for folder in folders}
    return {one: read_csv(path) for one, path in files.items() if path.is_file()}


def read_experiments(all_reports: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The `gains.csv` of experiments with several seeds, by scale, then by name."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for path in sorted(all_reports.glob("experiments/*/gains.csv")):
        rows = read_csv(path)
        if rows["scale"].nunique() == 1:
            found.setdefault(rows["scale"].iloc[0], {})[path.parent.name] = rows
    return found


def read_all(folder: Path) -> dict[str, pd.DataFrame]:
    """The csv files of a folder by stem, as `read_csv`."""
    return {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}


def read_csv(path: Path, separator: str = ",") -> pd.DataFrame:
    """A csv whose text stays as it is, a class called "NA" too: an empty cell is NaN in a column
    of numbers and "" in one of text."""
    try:
        frame = pd.read_csv(path, sep=separator, keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a csv file with a header ({error})") from error
    text = frame.select_dtypes(exclude=["number", "bool"]).columns
    return frame.astype(dict.fromkeys(text, object)).fillna(dict.fromkeys(text, ""))


def read_trained(folder: Path, runs: Sequence[Run]) -> list[TrainedRun]:
    """Those of `runs` that left a `provenance.json` in `folder` (`Paths.train`), with losses."""
    found = []
    for run in runs:
        one = folder / run.key
        if provenance := read_json(one / PROVENANCE):
            paths = sorted(verified(one / LOSSES).glob("*.tsv"))
            found.append(TrainedRun(run, provenance, {path.stem: _curve(path) for path in paths}))
    return found


def _curve(path: Path) -> pd.DataFrame:
    frame = read_csv(path, separator="\t")
    if "step" not in frame or path.stem not in frame:
        raise UserError(
            f"{path}: columns 'step' and {path.stem!r} are missing; repeat the training"
        )
    frame = frame[["step", path.stem]].set_axis(["step", "value"], axis="columns")
    return frame.apply(pd.to_numeric, errors="coerce").dropna()
