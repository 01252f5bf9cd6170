"""What the miniature data set is made of: COCO's 80 classes, their drawings, sizes and scenes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# COCO left gaps when it dropped 11 of its 91 planned categories ("instances_*.json", 2014-2017).
DROPPED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_IDS = tuple(i for i in range(1, 91) if i not in DROPPED_IDS)


@dataclass(frozen=True)
class ObjectClass:
    """One COCO class; `emoji` are code points in both sets, `openmoji` only in OpenMoji."""

    category_id: int
    name: str
    relative_size: float  # long side in the world, person = 1
    emoji: Sequence[str]
    openmoji: Sequence[str] = ()
    held: bool = False  # seen at any tilt
    flying: float = 0.0  # how often it is in the air, under a sky


@dataclass(frozen=True)
class SceneType:
    """A setting. `layout`: "sg" sky over ground, "wf" wall over floor, "top" table from above."""

    name: str
    layout: str
    grounds: Sequence[tuple[int, int, int]]  # RGB of the lower part (or table top), one of these
    weights: Mapping[str, float]  # class name -> how often it occurs here


@cache
def _material() -> dict:
    return json.loads(
        files("opmask.miniature").joinpath("annotations", "classes.json").read_text("utf-8")
    )


@cache
def classes() -> dict[str, ObjectClass]:
    """The 80 classes by name, in COCO's order."""
    entries = zip(COCO_IDS, _material()["classes"].items(), strict=True)
    return {name: ObjectClass(number, name, **entry) for number, (name, entry) in entries}


@cache
def scenes() -> tuple[SceneType, ...]:
    """All scene types."""
    return tuple(SceneType(name, **entry) for name, entry in _material()["scenes"].items())
