"""detectron2's settings by dotted key: `MODEL.FPN.NORM`."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting, of nested mappings or with keys that have dots already, by its dotted key."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
