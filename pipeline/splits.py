"""Stage `splits`: resolves every class split and counts its boxes and masks.

`runs/<scale>/splits.json` maps each split that applies to the data set (the paper's, and those
under `splits` in params.yaml) to its supervised and its novel classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opmask.data import coco, splits
from opmask.data.coco import Manifest, Summary, load_manifest
from opmask.data.streaming import read_lists
from pipeline import write_json
from pipeline.reporting import Scale, report_stage


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    paths = scale.paths
    described = describe_splits(load_manifest(paths.manifest), scale.params.get("splits"))
    write_json(paths.splits, described)
    for name, split in described.items():
        part = split["supervised"]
        print(f"{name}: {len(part['names'])} classes, {part['train_masks']:,} masks in train")


def describe_splits(
    manifest: Manifest, custom: Mapping[str, Sequence[str]] | None
) -> dict[str, dict[str, Any]]:
    """By split name: `supervised`, `novel` (see `_describe`) and which of them is `evaluated`."""
    categories = read_lists(manifest.train.annotations, "categories")["categories"]
    ids = {category["name"]: category["id"] for category in categories}
    counts = [coco.summarize(part.annotations) for part in (manifest.train, manifest.val)]
    described = {}
    for name in splits.available(categories, custom):
        split = splits.resolve(name, categories, custom)
        described[name] = {
            "supervised": _describe(split.supervised, ids, *counts),
            "novel": _describe(split.novel, ids, *counts),
            "evaluated": "novel" if split.novel else "supervised",
        }
    return described


def _describe(
    names: Sequence[str], ids: Mapping[str, int], train: Summary, val: Summary
) -> dict[str, Any]:
    """Class names, category ids, and counts without crowds and degenerate boxes."""
    category_ids = [ids[name] for name in names]
    return {
        "names": list(names),
        "category_ids": category_ids,
        "train_instances": sum(train.instances_by_category[i] for i in category_ids),
        "train_masks": sum(train.masks_by_category[i] for i in category_ids),
        "val_instances": sum(val.instances_by_category[i] for i in category_ids),
    }


if __name__ == "__main__":
    run()
