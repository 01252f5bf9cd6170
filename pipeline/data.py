"""Stage `data`: builds the embedded data set or checks the user's, and writes its manifest.

The manifest (`data/<scale>/manifest.json`) is all that later stages read and depend on: it has
the paths, the counts and digests that change when the data does. Of the user's annotation files it
names cleaned copies, `data/<scale>/annotations/{train,val}.json`, so that training, evaluation and
analysis see the same objects.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opmask.data import checks, coco
from opmask.data.copies import check_and_copy
from opmask.data.digests import digest_images
from opmask.errors import UserError
from pipeline import stage, write_json
from study.spec.data_settings import SETS, Places, check_settings, options, places
from study.spec.params import data_root, load_params
from study.spec.paths import Paths

MINIATURE_KEYS = (
    *("seed", "image_size", "train_images", "val_images"),
    *("min_train_instances", "min_val_instances"),
)
MINIATURE_PLACES: Places = {
    "train": ("annotations/instances_train.json", "train"),
    "val": ("annotations/instances_val.json", "val"),
}


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.data", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    check_settings(params)
    paths = Paths.of(params)
    settings = params["scales"][paths.scale]["data"]
    if settings["kind"] == "miniature":
        manifest = build_miniature(paths.data, settings)
    else:
        manifest = check_folder(paths.data, data_root(params), settings)
    annotations = paths.data / manifest["train"]["annotations"]
    manifest["categories"] = coco.load_categories(annotations)
    write_json(paths.manifest, manifest)
    for name in SETS:
        counts = ", ".join(f"{v:,} {k}" for k, v in manifest[name]["counts"].items())
        print(f"{name}: {counts}")


def build_miniature(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the embedded data set in `folder`, replacing it; returns its manifest (root `.`)."""
    from opmask import miniature  # here, as checking a folder needs no renderer

    miniature.build(folder, **{key: settings[key] for key in MINIATURE_KEYS}, progress=True)
    manifest: dict[str, Any] = {"kind": "miniature", "root": "."}
    for name, (annotations, images) in MINIATURE_PLACES.items():
        file = folder / annotations
        summary = coco.check(file, folder / images, for_evaluation=name == "val")
        files = [image["file_name"] for image in coco.load_json(file)["images"]]
        digest = digest_images(folder / images, files, "contents")
        manifest[name] = describe(folder, annotations, images, summary, digest)
    return manifest


def check_folder(folder: Path, root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the user's files below `root` and cleans their annotations into `folder`.

    Returns the manifest. Raises UserError for what breaks the contract in either file, and for
    categories that differ between the two.
    """
    (folder / "manifest.json").unlink(missing_ok=True)  # what it names is about to be replaced
    manifest: dict[str, Any] = {"kind": "coco", "root": str(root)}
    classes, errors, how = {}, [], options(settings)
    for name, where in places(settings).items():
        try:
            manifest[name], classes[name] = _check_set(folder, root, name, where, how)
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("; ".join(errors))
    if classes["train"] != classes["val"]:
        train, val = (root / settings[f"{name}_annotations"] for name in SETS)
        raise UserError(f"{val}: categories: ids and names differ from those of {train}")
    return manifest


def _check_set(
    folder: Path, root: Path, name: str, places: tuple[str, str], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[int, str]]:
    """The manifest's description of one of the user's sets, and its class names by category id."""
    file, images = (root / place for place in places)
    needs = checks.GROUND_TRUTH if name == "val" else ()
    how = options["check_images"], options["on_degenerate"]
    copy = f"annotations/{name}.json"
    summary, records, categories = check_and_copy(file, images, folder / copy, *how, needs)
    for warning in summary.warnings:
        print(f"warning: {file}: {warning}", file=sys.stderr)
    files = [image["file_name"] for image in records]
    classes = {category["id"]: category["name"] for category in categories}
    index = Paths(folder.name).image_digests / f"{folder.name}-{name}.json"
    digest = digest_images(images, files, options["digest_images"], index)
    return describe(folder, copy, places[1], summary, digest), classes


def describe(
    folder: Path, annotations: str, images: str, summary: coco.Summary, images_digest: str
) -> dict[str, Any]:
    """One set in the manifest: `annotations` below its folder, `images` below the data's root."""
    with open(folder / annotations, "rb") as file:
        annotations_digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "annotations": annotations,
        "images": images,
        "counts": {k: v for k, v in asdict(summary).items() if isinstance(v, int)},
        "annotations_sha256": annotations_digest,
        "images_sha256": images_digest,
    }


if __name__ == "__main__":
    run()
