"""The records of a COCO instances json as they are read: three lists, and what each must hold.

Python's parser takes more than JSON: NaN, and a key that occurs twice in an object, of which it
would silently keep the last. The first is left to the checks of single values, the second refused.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from opmask.errors import UserError

Record = dict[str, Any]

# What a record of each list must have, with the JSON types allowed.
FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}
_KINDS = {int: "a whole number", str: "text", list: "a list"}


def load_json(path: Path) -> Record:
    """A COCO json as a dict with the three lists; UserError if it cannot be read as one."""
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON, perhaps truncated ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply to be a COCO json") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be a JSON object with {', '.join(FIELDS)}")
    for key in FIELDS:
        if not isinstance(data.get(key), list):
            raise UserError(f"{path}: lacks the top-level list '{key}'")
    return data


def wrong_field(key: str, record: Any) -> str | None:
    """What is wrong with a record of the list `key`, its missing or mistyped field; None if fit."""
    if not isinstance(record, dict):
        return "record is not an object {…}"
    for name, kind in FIELDS[key].items():
        value = record.get(name)
        if type(value) is not kind:  # true is an int to isinstance
            return f"'{name}' missing or not {_KINDS[kind]}"
        if isinstance(value, str) and not _is_text(value):
            return f"'{name}' has characters that cannot be written (a lone surrogate, or NUL)"
    return None


def _is_text(value: str) -> bool:
    return "\0" not in value and (
        value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
    )


def unique_keys(pairs: list[tuple[str, Any]]) -> Record:
    """As json's `object_pairs_hook`: ValueError for a key that occurs twice."""
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"key {twice[:50]!r} occurs twice in one object")
    return record
