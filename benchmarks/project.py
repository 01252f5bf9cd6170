"""A copy of this project, with other parameters, whose stages run by DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from study.spec.params import CHOICES, PAPER, SCALES


def copy_project(root: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """What the stages need, into `root`; to DVC, no repository of git's.

    changes: by file of parameters what differs there, below its keys.
    """
    for name in ("opmask", "study", "pipeline", SCALES):
        shutil.copytree(name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (CHOICES, PAPER, "dvc.yaml"):
        shutil.copy(name, root)
    change(root, changes)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\nno_scm = true\nanalytics = false\n")


def change(root: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Let files of parameters in the copy say something else, below their keys."""
    for name, changed in changes.items():
        content = _merged(yaml.safe_load((root / name).read_text()), changed)
        (root / name).write_text(yaml.safe_dump(content, sort_keys=False))


def _merged(content: Any, changed: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(changed, Mapping):
        return changed
    return {**content, **{key: _merged(content.get(key), value) for key, value in changed.items()}}


def call(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module …` in the copy, where DVC finds this Python, too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=root, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )


def repro(stage: str) -> Sequence[str]:
    """What `call` needs for one stage by DVC."""
    return ("dvc", "repro", "--single-item", stage)
