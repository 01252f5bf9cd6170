"""Class splits (paper, section 4): which classes have masks in training, which are novel.

A split is named after its supervised set, as in the paper: `voc` trains with the masks of the 20
Pascal VOC classes and is evaluated on the other 60. Classes go by their COCO names, so a split
means the same whatever ids a file uses.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opmask.errors import UserError

_CLASSES = yaml.safe_load(Path(__file__).with_name("classes.yaml").read_text(encoding="utf-8"))
COCO_CLASSES, VOC_CLASSES, FURTHER_CLASSES = map(tuple, _CLASSES.values())

SUPERVISED_SETS = ("voc", "nonvoc", "voc20", "all")


@dataclass(frozen=True)
class Split:
    """Class names, both in the order of the data set's category list."""

    name: str
    supervised: tuple[str, ...]  # classes whose masks are used in training
    novel: tuple[str, ...]  # all other classes: boxes only; empty for `all`

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The classes of the split's headline AP: the novel ones, or all where none is novel."""
        return self.novel or self.supervised


def resolve(
    name: str,
    categories: Sequence[Mapping[str, Any]],
    custom: Mapping[str, Sequence[str]] | None = None,
) -> Split:
    """The split `name` over a data set's classes.

    categories: the `categories` list of a COCO json, of which `name` is read.
    custom: the user's own splits, supervised class names by split name (`splits` in params.yaml).
    Raises UserError for a split that does not exist or does not fit the data set.
    """
    known = _category_names(categories)
    supervised = set(_supervised(name, known, custom or {}))
    novel = tuple(n for n in known if n not in supervised)
    if not novel and name != "all":
        raise UserError(f"split '{name}' supervises every class and leaves none novel: use 'all'")
    return Split(name, tuple(n for n in known if n in supervised), novel)


def available(
    categories: Sequence[Mapping[str, Any]], custom: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Names of the splits that apply: all custom ones, `all`, and the paper's on COCO's classes."""
    is_coco = set(COCO_CLASSES) <= set(_category_names(categories))
    return [n for n in SUPERVISED_SETS if is_coco or n == "all"] + list(custom or {})


def _supervised(
    name: str, known: Sequence[str], custom: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    if name == "all":
        return known
    if name in custom:
        _require(custom[name], known, name)
        return custom[name]
    if name not in SUPERVISED_SETS:
        options = ", ".join([*SUPERVISED_SETS, *custom])
        raise UserError(f"split '{name}' is not known; there are: {options}")
    # Without all 80 classes "the other 60" would quietly be another evaluation than the paper's.
    _require(COCO_CLASSES, known, name)
    if name == "nonvoc":
        return [n for n in known if n not in VOC_CLASSES]
    return VOC_CLASSES if name == "voc" else VOC_CLASSES + FURTHER_CLASSES


def _category_names(categories: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [category["name"] for category in categories]
    if not names:
        raise UserError("the data set has no categories")
    _reject_duplicates(names, "categories")
    return names


def _require(classes: Sequence[str], known: Sequence[str], split: str) -> None:
    missing = [c for c in classes if c not in known]
    if not missing:
        return
    near = difflib.get_close_matches(missing[0], known, n=3)
    hint = f"; near names: {', '.join(near)}" if near else ""
    more = f" (and {len(missing) - 1} more of its classes)" if len(missing) > 1 else ""
    raise UserError(
        f"split '{split}': class '{missing[0]}'{more} is not in the data set's categories{hint}"
    )


def _reject_duplicates(names: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{where}: named more than once: {', '.join(twice)}")
