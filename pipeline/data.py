"""Stage `data`: builds the embedded data set or checks the user's, and writes its manifest.

The manifest (`data/<scale>/manifest.json`) is all that later stages read and depend on: it has
the paths, the counts and digests that change when the data does.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opmask.data import coco, layout
from opmask.errors import UserError
from opmask.planning.params import data_root, load_params
from pipeline import stage, write_json

DATA = Path("data")
SETS = ("train", "val")
# What the optional keys of `scales.<scale>.data` are if left out.
OPTIONS: dict[str, Any] = {"check_images": "header", "on_degenerate": "error", "official": False}
MINIATURE_KEYS = (
    *("seed", "image_size", "train_images", "val_images"),
    *("min_train_instances", "min_val_instances"),
)
# Where annotations and images of a set lie below the root.
Places = dict[str, tuple[str, str]]
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
    scale = params["scale"]
    settings = params["scales"][scale]["data"]
    if settings["kind"] == "miniature":
        manifest = build_miniature(DATA / scale, settings)
    else:
        manifest = check_folder(data_root(params), settings)
    annotations = DATA / scale / manifest["root"] / manifest["train"]["annotations"]
    manifest["categories"] = coco.load_categories(annotations)
    write_json(DATA / scale / "manifest.json", manifest)
    for name in SETS:
        counts = ", ".join(f"{v:,} {k}" for k, v in manifest[name]["counts"].items())
        print(f"{name}: {counts}")


def check_settings(params: Mapping[str, Any]) -> None:
    """What can be known of the data before reading it: that files and folders exist.

    Raises:
        UserError: names all files and folders that are missing.
    """
    settings = params["scales"][params["scale"]]["data"]
    if settings["kind"] == "miniature":
        return
    root = data_root(params)
    official = _options(settings)["official"]
    lacks = layout.missing(root) if official else _lacks(root, _places(settings))
    if lacks:
        raise UserError(
            f"data_root lacks {len(lacks)} item(s): {'; '.join(lacks)} (another folder: "
            "`dvc repro` after editing data_root in params.yaml, or "
            "`dvc exp run -S data_root=/path/to/coco`)"
        )


def _places(settings: Mapping[str, Any]) -> Places:
    return {n: (settings[f"{n}_annotations"], settings[f"{n}_images"]) for n in SETS}


def _options(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: settings.get(key, default) for key, default in OPTIONS.items()}


def build_miniature(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the embedded data set in `folder`, replacing it; returns its manifest (root `.`)."""
    from opmask import miniature  # here, as checking a folder needs no renderer

    miniature.build(folder, **{key: settings[key] for key in MINIATURE_KEYS}, progress=True)
    return {"kind": "miniature", "root": "."} | {
        name: describe(folder, *places, {}, for_evaluation=name == "val", contents=True)
        for name, places in MINIATURE_PLACES.items()
    }


def check_folder(root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the user's files; returns their manifest (absolute root)."""
    return {"kind": "coco", "root": str(root)} | {
        name: describe(root, *places, _options(settings), for_evaluation=name == "val")
        for name, places in _places(settings).items()
    }


def describe(
    root: Path,
    annotations: str,
    images: str,
    options: Mapping[str, Any],
    *,
    for_evaluation: bool,
    contents: bool = False,
) -> dict[str, Any]:
    """Checks one set and describes it for the manifest, paths relative to `root`.

    options: `check_images` and `on_degenerate`, as in `scales.<scale>.data`.
    contents: digest the images' bytes rather than their sizes.
    """
    summary = coco.check(
        root / annotations,
        root / images,
        images=options.get("check_images", "header"),
        on_degenerate=options.get("on_degenerate", "error"),
        for_evaluation=for_evaluation,
    )
    counts = {k: v for k, v in asdict(summary).items() if isinstance(v, int)}
    with open(root / annotations, "rb") as file:
        annotations_digest = hashlib.file_digest(file, "sha256").hexdigest()
    names = [image["file_name"] for image in coco.read_json(root / annotations)["images"]]
    return {
        "annotations": annotations,
        "images": images,
        "counts": counts,
        "annotations_sha256": annotations_digest,
        "images_sha256": digest_images(root / images, names, contents=contents),
    }


def digest_images(folder: Path, names: Sequence[str], *, contents: bool) -> str:
    """sha256 over the sorted file names with their sizes in bytes, or with their contents."""
    digest = hashlib.sha256()
    for name in tqdm(sorted(names), f"{folder.name}: digest", disable=None):
        path = folder / name
        value = hashlib.sha256(path.read_bytes()).hexdigest() if contents else path.stat().st_size
        digest.update(f"{name}\0{value}\n".encode())
    return digest.hexdigest()


def _lacks(root: Path, places: Places) -> list[str]:
    if not root.is_dir():
        return [f"{root}: no such folder"]
    files = [root / annotations for annotations, _ in places.values()]
    folders = [root / images for _, images in places.values()]
    return [f"{path}: no such file" for path in files if not path.is_file()] + [
        f"{path}: no such folder" for path in folders if not path.is_dir()
    ]


if __name__ == "__main__":
    run()
