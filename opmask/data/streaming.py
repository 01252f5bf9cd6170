"""A COCO json in blocks of records: as Python objects all of COCO takes six times its file's size.

orjson parses a block in a tenth of the time of `opmask.data.records.load_json`. Whatever is unusual
about a file, `load_json` decides: this gives the same records, and the same errors.
"""

import gc
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from opmask.data.records import FIELDS, Record, load_json, unique_keys

_BLOCKS = (1 << 18, 1 << 22, 1 << 26)  # bytes; the next if no record ends within the one before
_LIST = re.compile(rb'"(%b)"\s*:\s*\[\s*' % "|".join(FIELDS).encode())
_LAST = re.compile(rb"\}\s*\]")  # may end a list of records
_NEXT = re.compile(rb"\}\s*,\s*\{")  # may stand between two
_WHOLE = ("id", "image_id", "category_id", "width", "height")
_SPACED_KEY = re.compile(rb'"\s+:')


class _Unusual(Exception):
    """To be read by `load_json`."""


def read_blocks(path: Path, only: Collection[str] = FIELDS) -> Iterator[tuple[str, list[Any]]]:
    """The records of `path`, as many at a time as a block holds: (name of their list, these).

    Lists come in the order of the file, records unchecked and in theirs; an empty list never.

    only: the lists that are wanted; others are passed over, and their records not even parsed.

    Raises:
        UserError: as `load_json`, perhaps after some blocks.
    """
    done: Counter[str] = Counter()
    try:
        for key, records in _blocks(path.read_bytes(), only):
            done[key] += len(records)
            yield key, records
    except (OSError, _Unusual):
        for key, records in load_json(path).items():
            if key in only and records[done[key] :]:
                yield key, records[done[key] :]


def read_lists(path: Path, *keys: str) -> dict[str, list[Any]]:
    """Whole lists of `path` by name, without the memory of others; UserError as `read_blocks`."""
    lists: dict[str, list[Any]] = {key: [] for key in keys}
    for key, records in read_blocks(path, keys):
        lists[key] += records
    return lists


def _blocks(text: bytes, only: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    """Cuts are guesses, which parsers confirm: each block, and what is left without the lists."""
    around, at = b"", 0
    while found := _LIST.search(text, at):
        around += text[at : found.end()]
        key = found[1].decode()
        if [*_outermost(around + b"]}")][-1:] != [key]:
            raise _Unusual
        at = found.end()
        if key not in only and (last := _LAST.search(text, at)) and text[at : at + 1] != b"]":
            at = last.end() - 1
        while text[at : at + 1] != b"]":
            records, at = _block(text, at)
            if key in only:  # whose end was not found above
                yield key, records
    content = _outermost(around + text[at:])
    if any(content.get(key) != [] for key in FIELDS):
        raise _Unusual


def _outermost(text: bytes) -> Record:
    try:
        content = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError):
        raise _Unusual from None
    if not isinstance(content, dict):
        raise _Unusual
    return content


def _block(text: bytes, start: int) -> tuple[list[Any], int]:
    """Records from `start`, where one begins, and where the next one or the list's end is."""
    for size in _BLOCKS:
        last = _LAST.search(text, start, start + size)
        cuts = [*_NEXT.finditer(text, start, start + size)][:-3:-1]
        for end in [last, *cuts] if last else cuts:
            try:
                return _parse(text[start : end.start() + 1]), end.end() - 1
            except ValueError:  # within a record
                continue
    raise _Unusual


def _parse(text: bytes) -> list[Any]:
    text = b"[%b]" % text
    with _no_collection():
        records = orjson.loads(text)
    if not _is_certain(records, text):
        records = json.loads(text, object_pairs_hook=unique_keys)
    return records


@contextmanager
def _no_collection() -> Iterator[None]:
    """The garbage collector would search all that is parsed again and again: half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_certain(records: list[Any], text: bytes) -> bool:
    """Whether no key can be in an object twice, of which orjson keeps the last, and no id was too
    large for it. In doubt it is not."""
    try:
        masks = [record.get("segmentation") for record in records]
        whole = {type(record.get(name, 0)) for name in _WHOLE for record in records}
    except AttributeError:
        return False
    keys = sum(map(len, records)) + sum(len(mask) for mask in masks if isinstance(mask, dict))
    return whole <= {int} and text.count(b'":') == keys and not _SPACED_KEY.search(text)
