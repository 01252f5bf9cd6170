"""Where a data set lies, and how it is checked: `data_root` and `data` of a scale."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opmask.data import coco_files
from opmask.errors import UserError
from study.spec.params import data_root
from study.spec.paths import Paths

SETS = ("train", "val")
# What the optional keys of `data` are if left out.
OPTIONS: dict[str, Any] = {
    "check_images": "header",
    "on_degenerate": "error",
    "digest_images": "contents",
    "official": False,
}
# Where annotations and images of a set lie below the root.
Places = dict[str, tuple[str, str]]


def check_settings(params: Mapping[str, Any]) -> None:
    """What can be known of the data before reading it: that files and folders exist.

    Raises:
        UserError: names all files and folders that are missing.
    """
    settings = params["scales"][params["scale"]]["data"]
    if settings["kind"] == "miniature":
        return
    root = data_root(params)
    if root.resolve().is_relative_to(Paths.of(params).data.resolve()):
        raise UserError(f"data_root: {root} is where stage `data` writes; move your data elsewhere")
    official = options(settings)["official"]
    lacks = coco_files.missing(root) if official else _lacks(root, places(settings))
    if lacks:
        raise UserError(
            f"data_root lacks {len(lacks)} item(s): {'; '.join(lacks)} (another folder: "
            "`dvc repro` after editing data_root in params.yaml, or "
            "`dvc exp run -S data_root=/path/to/coco`)"
        )


def places(settings: Mapping[str, Any]) -> Places:
    """Annotation file and image folder of each of SETS, below the root."""
    return {n: (settings[f"{n}_annotations"], settings[f"{n}_images"]) for n in SETS}


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The optional keys, with what they are if left out."""
    return {key: settings.get(key, default) for key, default in OPTIONS.items()}


def _lacks(root: Path, places: Places) -> list[str]:
    if not root.is_dir():
        return [f"{root}: no such folder"]
    files = [root / annotations for annotations, _ in places.values()]
    folders = [root / images for _, images in places.values()]
    return [f"{path}: no such file" for path in files if not path.is_file()] + [
        f"{path}: no such folder" for path in folders if not path.is_dir()
    ]
