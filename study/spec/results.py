"""What the training and evaluation stages left in `runs/<scale>/`, as tidy frames.

Runs that were not made (the user narrowed `runs` or `seeds`) are left out, never an error here.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from opmask.data.splits import Split
from opmask.errors import UserError
from opmask.integrity import is_sealed, verified
from study.spec.paths import PER_CLASS, PROVENANCE
from study.spec.run import Run

METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
_IDENTITY = ["method", "backbone", "supervised", "schedule", "seed"]
_COLUMNS = ["category_id", "category", "supervision", "task", "instances", *METRICS]


def evaluation_dir(runs_dir: Path, run: Run) -> Path:
    """Where the evaluate stage wrote its results of one run and seed."""
    return runs_dir / "evaluate" / run.key


def read_per_class(runs_dir: Path, runs: Sequence[Run]) -> pd.DataFrame:
    """Per-class AP of every run that was evaluated, concatenated in the order of `runs`.

    A configuration listed under two names (with and without the global schedule) counts once.

    Columns: run, method, backbone, supervised, schedule, seed, category_id, category,
    supervision (supervised | novel), task (segm | bbox), instances, and METRICS in percent, NaN
    where a class has no ground truth. Raises UserError if a file lacks a column or was made with
    other settings than params.yaml now asks for.
    """
    columns = ["run", *_IDENTITY, *_COLUMNS]
    frames = [pd.DataFrame(columns=columns).astype(dict.fromkeys(METRICS, float))]
    seen = set()
    for run in runs:
        path, one = evaluation_dir(runs_dir, run) / PER_CLASS, (run.configuration, run.seed)
        there = path.is_file() or is_sealed(path.parent)  # if missing there, that is damage
        if there and one not in seen:
            seen.add(one)
            frames.append(read_one(path, run)[columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)


def read_one(path: Path, run: Run) -> pd.DataFrame:
    # only the numbers may be missing: a class may well be called "NA" or "null"
    missing = dict.fromkeys(METRICS, ["", "nan", "NaN"])
    frame = pd.read_csv(verified(path), keep_default_na=False, na_values=missing)
    absent = [column for column in _IDENTITY + _COLUMNS if column not in frame]
    if absent:
        raise UserError(f"{path}: column {absent[0]!r} is missing; repeat the evaluate stage")
    expected = asdict(run)
    for key in _IDENTITY:
        wrong = frame.loc[frame[key].astype(str) != str(expected[key]), key]
        if len(wrong):
            raise UserError(
                f"{path}: {key} is {wrong.iloc[0]!r}, but params.yaml asks for "
                f"{expected[key]!r}; repeat the evaluate stage (dvc repro)"
            )
    return frame.assign(run=run.name)


def describe(table: pd.DataFrame, run: Run, split: Split) -> pd.DataFrame:
    """`table` with the run's fields in front and each class's supervision."""
    table = table.assign(
        supervision=["novel" if c in split.novel else "supervised" for c in table["category"]]
    )
    fields = {"run": run.name, **{key: getattr(run, key) for key in _IDENTITY}}
    for position, (name, value) in enumerate(fields.items()):
        table.insert(position, name, value)
    return table


def summarise(per_class: pd.DataFrame) -> pd.DataFrame:
    """Mean over classes: one row a run × seed × supervision × task, METRICS in percent.

    AP of a class subset is the mean of its classes' APs, classes without ground truth left out
    (COCOeval restricted to those category ids).
    """
    keys = ["run", *_IDENTITY, "supervision", "task"]
    return per_class.groupby(keys, sort=False, as_index=False)[METRICS].mean()


def read_json(path: Path) -> dict:
    """The object in a JSON file, or an empty one if there is no such file.

    Raises UserError if the file holds no JSON object, or is of a published folder and damaged.
    """
    if not path.is_file() and not is_sealed(path.parent):  # if missing there, that is damage
        return {}
    try:
        content = json.loads(verified(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, not a JSON object")
    return content


def read_provenance(runs_dir: Path, runs: Sequence[Run]) -> dict[str, list[dict]]:
    """`provenance.json` of what was made, by stage, in the order of the pipeline:
    pretrain (one a backbone), train and evaluate (one a run and seed)."""
    keys = [run.key for run in runs]
    backbones = dict.fromkeys(run.backbone for run in runs)
    folders = {"pretrain": list(backbones), "train": keys, "evaluate": keys}
    found = {
        stage: [read_json(runs_dir / stage / name / PROVENANCE) for name in names]
        for stage, names in folders.items()
    }
    return {stage: [entry for entry in entries if entry] for stage, entries in found.items()}
