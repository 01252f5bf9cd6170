"""The parameters of the repository, resolved, and how to write some like them."""

import shutil
from pathlib import Path

import yaml

from study.spec.params import CHOICES, PAPER, SCALES, load_params
from study.spec.schema import SCHEMA

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / CHOICES) | {"seeds": [0]}
TAKE_BACK = "git checkout params.yaml paper.yaml scales"  # as the documents say


def write_params(params: dict, folder: Path = Path()) -> None:
    """The files that `load_params` reads, so that it gives `params`."""
    shutil.rmtree(folder / SCALES, ignore_errors=True)
    (folder / SCALES).mkdir()
    files = {f"{SCALES}/{name}.yaml": scale for name, scale in params["scales"].items()}
    for name in (CHOICES, PAPER):
        files[name] = {key: value for key, value in params.items() if key in SCHEMA[name]}
    if isinstance(params["seeds"], dict):  # those of suite and scale
        files[CHOICES]["seeds"] = []
    files[PAPER]["suites"] = {name: {"once": runs} for name, runs in params["suites"].items()}
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))


def copy_params(folder: Path = Path(), root: Path = ROOT) -> None:
    """The files as they are in the repository."""
    for name in (CHOICES, PAPER):
        shutil.copy(root / name, folder / name)
    shutil.copytree(root / SCALES, folder / SCALES, dirs_exist_ok=True)
