"""Which classes stand in which image: scenes by co-occurrence, with a floor for every class."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from opmask.miniature.catalogue import SceneType, classes, scenes

OBJECTS = (3, 4, 5, 6, 7)  # objects an image, and how often
OBJECT_SHARES = (0.2, 0.25, 0.25, 0.18, 0.12)
REPEAT = 0.15  # herds, rows of books: the next object repeats the class before it
BOOST = 4.0  # factor added to the weight of a class that has none of its floor yet


@dataclass(frozen=True)
class ImagePlan:
    """One image to compose: its scene and the class name of every object."""

    scene: SceneType
    objects: tuple[str, ...]


def plan(rng: np.random.Generator, images: int, floor: int) -> list[ImagePlan]:
    """`images` plans in which every class occurs at least `floor` times.

    Raises ValueError if so many objects do not fit into so few images.
    """
    short = Counter(dict.fromkeys(classes(), floor))
    needed = _images_needed(short)
    if needed > images:
        raise ValueError(
            f"{images} images cannot hold {floor} instances of each of the {len(classes())} "
            f"classes; that takes at least {needed} images"
        )
    plans = []
    for index in range(images):
        forced = _images_needed(short) >= images - index
        plans.append(_forced(short) if forced else _sampled(rng, short, floor))
        short -= Counter(plans[-1].objects)  # Counter drops what is no longer short
    rng.shuffle(plans)
    return plans


@cache
def _home() -> dict[str, SceneType]:
    """Class -> the scene where it is most at home."""

    def share(scene: SceneType, name: str) -> float:
        return scene.weights.get(name, 0) / sum(scene.weights.values())

    return {name: max(scenes(), key=lambda scene: share(scene, name)) for name in classes()}


def _shortage(short: Counter[str]) -> Counter[str]:
    """Scene name -> instances still short among the classes at home there."""
    total: Counter[str] = Counter()
    for name, count in short.items():
        total[_home()[name].name] += count
    return total


def _images_needed(short: Counter[str]) -> int:
    return sum(math.ceil(count / OBJECTS[-1]) for count in _shortage(short).values())


def _forced(short: Counter[str]) -> ImagePlan:
    """As full an image as allowed, of the scene and the classes furthest below their floor."""
    remaining = _shortage(short)
    scene = max(scenes(), key=lambda scene: remaining[scene.name])
    local = Counter({name: n for name, n in short.items() if _home()[name] is scene})
    objects: list[str] = []
    while len(objects) < OBJECTS[-1] and (local or len(objects) < OBJECTS[0]):
        name = local.most_common(1)[0][0] if local else next(iter(scene.weights))
        objects.append(name)
        local -= Counter([name])
    return ImagePlan(scene, tuple(objects))


def _sampled(rng: np.random.Generator, short: Counter[str], floor: int) -> ImagePlan:
    """An image by scene weights, leaning towards classes below their floor."""
    kinds = scenes()
    remaining = _shortage(short)
    share = np.array([remaining[kind.name] for kind in kinds], float)
    odds = 1 / len(kinds) + share / max(share.sum(), 1)
    scene = kinds[rng.choice(len(kinds), p=odds / odds.sum())]
    names = list(scene.weights)
    weights = np.array([scene.weights[n] * (1 + BOOST * short[n] / max(floor, 1)) for n in names])
    count = int(rng.choice(OBJECTS, p=OBJECT_SHARES))
    picks = rng.choice(len(names), size=count, p=weights / weights.sum())
    for k in range(1, count):
        if rng.random() < REPEAT:
            picks[k] = picks[k - 1]
    return ImagePlan(scene, tuple(names[k] for k in picks))
