"""The standing words of the reports, from `words.yaml`, where `{names}` are for `str.format`; and
the columns of their tables, from `columns.yaml`, see `render.lay_out`."""

from pathlib import Path
from typing import Any

import yaml


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


WORDS = _load("words.yaml")
COLUMNS = _load("columns.yaml")
