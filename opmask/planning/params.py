"""Reads params.yaml, the one place where a user says what to run."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from opmask.errors import UserError

KEYS = [
    "scale",
    "data_root",
    "schedule",
    "seeds",
    "runs",
    "splits",
    "backbones",
    "methods",
    "schedules",
    "bootstrap",
    "ambiguity",
    "cam",
    "overlap",
    "hardware",
    "scales",
]


def load_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """The parameters as written, with `scale` and `schedule` known to exist.

    Raises:
        UserError: the file is missing or no YAML, a key is missing, or a name is unknown.
    """
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); run from the project's root"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error
    missing = [key for key in KEYS if key not in (params or {})]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}")
    require(params["scale"], params["scales"], f"{path}: scale")
    require(str(params["schedule"]), params["schedules"], f"{path}: schedule")
    return params


def require(name: str, known: Collection[str], what: str) -> None:
    """Raises UserError, listing what exists, unless `name` is among `known`."""
    if name not in known:
        raise UserError(f"{what}: {name!r} is unknown; there are {', '.join(map(str, known))}")
