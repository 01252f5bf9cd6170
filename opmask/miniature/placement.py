"""Where the objects of a scene stand: sizes by perspective, clusters that overlap on purpose."""

from dataclasses import dataclass

import numpy as np

from opmask.miniature.catalogue import classes
from opmask.miniature.planning import ImagePlan

CLUSTERED = 0.7  # share of images whose objects stand in overlapping groups
MIN_LONG_SIDE = 20.0  # pixels, whatever the image size
MAX_LONG_SIDE = 0.8  # of the image
TYPICAL = {"sg": 70.0, "wf": 70.0, "top": 88.0}  # long side at relative size 1, of 160 pixels
COMPRESSION = 0.5  # exponent that keeps small things visible: cup : person = 0.45, not 0.2
SMALL = 0.35  # relative size up to which things also hang on walls and stand on shelves


@dataclass(frozen=True)
class Placement:
    """One object: which drawing, where its centre is (pixels) and how it is turned."""

    class_name: str
    sprite: float  # in [0, 1): which drawing of the class
    x: float
    y: float
    long_side: float  # pixels before rotation
    angle: float  # degrees
    flip: bool
    depth: float  # painter's order: small is painted first


@dataclass(frozen=True)
class Stage:
    """What all objects of one image share."""

    layout: str
    horizon: float  # fraction of the height
    size: int  # pixels
    scale: float  # of all objects
    spread: float  # distance of neighbours in a cluster, 1 = side by side


def place(
    rng: np.random.Generator, plan: ImagePlan, horizon: float, size: int, attempt: int
) -> list[Placement]:
    """Placements in painter's order; later attempts draw smaller and looser."""
    scale = rng.uniform(1.0, 1.6) * 0.97**attempt
    spread = rng.uniform(0.35, 0.7) * 1.04**attempt
    stage = Stage(plan.scene.layout, horizon, size, scale, spread)
    groups: dict[int, list[Placement]] = {}
    placed: list[Placement] = []
    for name, group in zip(plan.objects, _group_numbers(rng, len(plan.objects)), strict=True):
        fellows = groups.setdefault(group, [])
        if fellows:
            new = _beside(rng, name, stage, fellows[rng.integers(len(fellows))])
        else:
            options = [_alone(rng, name, stage) for _ in range(6)]
            new = min(options, key=lambda option: _crowding(option, placed))
        fellows.append(new)
        placed.append(new)
    return sorted(placed, key=lambda p: p.depth)


def grid(rng: np.random.Generator, plan: ImagePlan, size: int) -> list[Placement]:
    """The last resort: small upright objects in the cells of a 3 x 3 grid, nothing hidden."""
    side = max(0.28 * size, MIN_LONG_SIDE)
    centres = [size * (k + 0.5) / 3 for k in range(3)]
    cells = rng.permutation(9)
    return [
        Placement(name, rng.random(), centres[cell % 3], centres[cell // 3], side, 0.0, False, 0.0)
        for name, cell in zip(plan.objects, cells, strict=False)
    ]


def _group_numbers(rng: np.random.Generator, count: int) -> list[int]:
    """Group of each object: all apart, one cluster, or two clusters from four objects on."""
    if rng.random() >= CLUSTERED:
        return list(range(count))
    two = count >= 4 and rng.random() < 0.6
    return [k % 2 if two else 0 for k in range(count)]


def _alone(rng: np.random.Generator, name: str, stage: Stage) -> Placement:
    """An object on its own: on the ground, in the air, on a wall or shelf, on the table."""
    size, horizon = stage.size, stage.horizon
    x = rng.uniform(0.14, 0.86) * size
    hung = stage.layout == "wf" and classes()[name].relative_size <= SMALL and rng.random() < 0.6
    if stage.layout == "top" or hung:
        y = rng.uniform(0.15, 0.85) * size
        return _placed(rng, name, stage, x, y, _long_side(rng, name, stage, rng.uniform(0.4, 0.7)))
    if stage.layout == "sg" and rng.random() < classes()[name].flying:
        y = rng.uniform(0.1, horizon) * size
        return _placed(rng, name, stage, x, y, _long_side(rng, name, stage, rng.uniform(0.2, 0.8)))
    nearness = rng.uniform(0.05, 1)
    long_side = _long_side(rng, name, stage, nearness)
    foot = (horizon + (0.08 + 0.86 * nearness) * (1 - horizon)) * size
    return _placed(rng, name, stage, x, foot - 0.4 * long_side, long_side)


def _beside(rng: np.random.Generator, name: str, stage: Stage, fellow: Placement) -> Placement:
    """An object so close to `fellow` that their boxes overlap; mostly inside the image."""
    long_side = _long_side(rng, name, stage, nearness=0.5)
    reach = stage.spread * (long_side + fellow.long_side) / 2
    direction = rng.uniform(0, 2 * np.pi)
    flatten = 1.0 if stage.layout == "top" else 0.6  # people stand beside, not above, each other
    margin = 0.35 * long_side
    x = np.clip(fellow.x + reach * np.cos(direction), margin, stage.size - margin)
    y = np.clip(fellow.y + flatten * reach * np.sin(direction), margin, stage.size - margin)
    return _placed(rng, name, stage, float(x), float(y), long_side)


def _long_side(rng: np.random.Generator, name: str, stage: Stage, nearness: float) -> float:
    """Pixels, by the compressed size of the class, the scale and a perspective of `nearness`."""
    relative = classes()[name].relative_size ** COMPRESSION
    perspective = (0.7 + 0.6 * nearness) * rng.uniform(0.9, 1.1)
    typical = TYPICAL[stage.layout] * stage.size / 160
    long_side = typical * relative * stage.scale * perspective
    return float(np.clip(long_side, MIN_LONG_SIDE, MAX_LONG_SIDE * stage.size))


def _placed(
    rng: np.random.Generator, name: str, stage: Stage, x: float, y: float, long_side: float
) -> Placement:
    """An object centred at (x, y): drawing, tilt, side and painter's order are drawn."""
    top = stage.layout == "top"
    tilt = 180.0 if top else 50.0 if classes()[name].held else 7.0
    # Nearer feet are painted later, and small things mostly after (on, held by) large ones.
    foot = 0.0 if top else y + long_side / 2
    depth = foot - (0.8 + rng.normal(0, 0.15)) * long_side
    angle, flip = float(rng.uniform(-tilt, tilt)), bool(rng.random() < 0.5)
    return Placement(name, rng.random(), x, y, long_side, angle, flip, float(depth))


def _crowding(new: Placement, placed: list[Placement]) -> float:
    """Overlap area of the squares around `new` and everything placed."""
    total = 0.0
    for old in placed:
        reach = (new.long_side + old.long_side) / 2
        total += max(reach - abs(new.x - old.x), 0) * max(reach - abs(new.y - old.y), 0)
    return total
