"""Masks in true boxes on images held out of a training: what settings are chosen by.

No stage. Of trained runs whose schedule has `hold_out` (`-S schedule=held_out -S seeds=100`), all
that are planned or those named: the mean IoU, percent, beside masks that need no model. AP there is
in the reports of stage `search`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from opmask.data.coco import Manifest, load_json, load_manifest, load_training_dicts
from opmask.errors import UserError
from opmask.evaluation.floors import mean_mask, measure_floors
from pipeline import command
from pipeline.evaluate import config, mask_threshold
from pipeline.search import held_out
from study.analysis.held_out import Groups, class_groups, restrict
from study.format import MISSING
from study.spec.params import load_params
from study.spec.paths import WEIGHTS, Paths
from study.spec.run import Run, all_runs

# What is measured of each run and floor; `right`: of the novel objects, how many the box head takes
# for what they are.
COLUMNS = ["masks", "novel", "novel_objects", "supervised", "supervised_objects", "right"]
OWN = "the run's"  # masks that are not a floor's


@command
def run(argv: Sequence[str]) -> None:
    """Measure, print the table and write it where --out says."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.held_out", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="opmask-R50-voc-100, say")
    parser.add_argument("--out", type=Path, help="also write the table to this csv file")
    args = parser.parse_args(argv)
    params = load_params()
    paths, tables = Paths.of(params), []
    manifest = load_manifest(paths.manifest)
    for one in chosen(args.runs, params):
        groups = class_groups(one.supervised, manifest.categories, params["splits"])
        found = measure(paths.train / one.key, manifest, groups, params)
        tables.append(found.assign(run=one.key)[["run", *COLUMNS]])
    table = pd.concat(tables, ignore_index=True)
    if args.out:
        table.to_csv(args.out, index=False)
    print(tabulate(table, headers="keys", floatfmt=".1f", showindex=False, missingval=MISSING))


def chosen(names: Sequence[str], params: Mapping[str, Any]) -> list[Run]:
    """The planned runs of these names, or all whose schedule holds images out.

    Raises:
        UserError: no such run, or none; names those that are.
    """
    held = [one for one in all_runs(params) if params["schedules"][one.schedule].get("hold_out")]
    known = {one.key: one for one in held}
    if not known:
        raise UserError("no planned run holds images out; ask for them with -S schedule=held_out")
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(known)
        raise UserError(f"{unknown[0]}: no planned run that holds images out; there are {there}")
    return [known[name] for name in names] or held


def measure(
    trained: Path, manifest: Manifest, groups: Groups, params: Mapping[str, Any]
) -> pd.DataFrame:
    """A row of COLUMNS for the run in the published folder `trained`, and for each floor.

    Held-out objects with a mask count, crowds aside. The mean mask is of the images trained on.
    """
    from opmask.evaluation.inference import load_model
    from opmask.evaluation.oracle import measure_in_true_boxes

    train, ids = manifest.train, held_out(trained)
    truth = restrict(load_json(train.annotations), ids, "bbox")
    cfg, workers = config(trained, params["hardware"])
    model = load_model(cfg, trained / WEIGHTS, mask_threshold(params))
    found = measure_in_true_boxes(
        model, cfg, truth, train.images, groups["all"], workers=workers, description=trained.name
    )
    dicts, _ = load_training_dicts(train.annotations, train.images, groups["supervised"])
    taught = [record for record in dicts if record["image_id"] not in set(ids)]
    floors = measure_floors(truth, mean_mask(taught))
    parts = {OWN: found} | {str(name): part for name, part in floors.groupby("floor", sort=False)}
    return pd.DataFrame([{"masks": name, **_means(part, groups)} for name, part in parts.items()])


def _means(table: pd.DataFrame, groups: Groups) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in ("novel", "supervised"):
        part = table[table["category_id"].isin(groups.get(name, ()))]
        row |= {name: 100 * part["iou"].mean(), f"{name}_objects": len(part)}
        if name == "novel" and "predicted_id" in table:
            row["right"] = 100 * (part["predicted_id"] == part["category_id"]).mean()
    return row


if __name__ == "__main__":
    run()
