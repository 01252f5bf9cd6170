"""What is compared and shown, as data. A package of its own, so that a change of its files makes
only those stages out of date that read them."""

from importlib.resources import files
from typing import Any

import yaml


def load(name: str) -> Any:
    """The content of one of the yaml files here, e.g. "contrasts"."""
    return yaml.safe_load(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
