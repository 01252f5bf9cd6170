"""What the miniature data set is made of: COCO's 80 classes, their drawings, sizes and scenes."""

import json
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
    emoji: tuple[str, ...]
    openmoji: tuple[str, ...]
    relative_size: float  # long side in the world, person = 1


@dataclass(frozen=True)
class SceneType:
    """A setting. `layout`: "sg" sky over ground, "wf" wall over floor, "top" table from above."""

    name: str
    layout: str
    weights: dict[str, float]  # class name -> how often it occurs here


@cache
def _material() -> dict:
    return json.loads(
        files("opmask.miniature").joinpath("annotations", "classes.json").read_text("utf-8")
    )


@cache
def classes() -> dict[str, ObjectClass]:
    """The 80 classes by name, in COCO's order."""
    return {
        name: ObjectClass(
            category_id,
            name,
            tuple(entry["emoji"]),
            tuple(entry["openmoji_extra"]),
            entry["relative_size"],
        )
        for category_id, (name, entry) in zip(COCO_IDS, _material()["classes"].items(), strict=True)
    }


@cache
def scenes() -> tuple[SceneType, ...]:
    """All scene types."""
    return tuple(
        SceneType(name, entry["layout"], entry["weights"])
        for name, entry in _material()["scenes"].items()
    )
