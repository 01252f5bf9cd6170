"""Paint one scene: sprites over a background in painter's order, with exact visible masks."""

from dataclasses import dataclass

import cv2
import numpy as np

from opmask.miniature.backgrounds import background
from opmask.miniature.placement import Placement, grid, place
from opmask.miniature.planning import ImagePlan
from opmask.miniature.sprites import OPAQUE, sprites

MIN_VISIBLE_SHARE = 0.3  # of an object's own pixels, those outside the image included
MIN_VISIBLE_PIXELS = 24
MIN_THICKNESS = 7.0  # pixels across a bat or a knife
ATTEMPTS = 25  # layouts tried until every object is visible enough


@dataclass(frozen=True)
class Layer:
    """A sprite scaled and turned: premultiplied RGBA uint8 (h, w, 4), its top-left pixel."""

    class_name: str
    rgba: np.ndarray
    top: int
    left: int


@dataclass(frozen=True)
class Scene:
    """An image, RGB uint8 (size, size, 3), and (class name, visible bool mask) per object."""

    image: np.ndarray
    objects: list[tuple[str, np.ndarray]]


def compose(rng: np.random.Generator, plan: ImagePlan, size: int) -> Scene:
    """Paint `plan` on `size` x `size` pixels; every object is visible enough to be annotated."""
    horizon = float(rng.uniform(0.3, 0.6))
    for attempt in range(ATTEMPTS + 1):
        placements = (
            place(rng, plan, horizon, size, attempt)
            if attempt < ATTEMPTS
            else grid(rng, plan, size)
        )
        layers = [layer(placement) for placement in placements]
        masks = visible_masks(layers, size)
        enough = [_visible_enough(*pair) for pair in zip(layers, masks, strict=True)]
        if all(enough):
            break
    image = background(rng, plan.scene, horizon, size)
    for item in layers:
        paint(image, item, gain=rng.uniform(0.85, 1.1, 3) * rng.uniform(0.8, 1.1))
    kept = [
        (item.class_name, mask)
        for item, mask, keep in zip(layers, masks, enough, strict=True)
        if keep
    ]
    return Scene(_photographed(rng, image), kept)


def layer(placement: Placement) -> Layer:
    """The drawing of a placement at its size and angle."""
    drawings = sprites()[placement.class_name]
    sprite = drawings[int(placement.sprite * len(drawings))]
    height, width = sprite.shape[:2]
    scale = max(placement.long_side / max(height, width), MIN_THICKNESS / min(height, width))
    shape = (max(round(width * scale), 1), max(round(height * scale), 1))
    rgba = cv2.resize(sprite, shape, interpolation=cv2.INTER_AREA)
    if placement.flip:
        rgba = rgba[:, ::-1]
    rgba = _rotated(rgba, placement.angle)
    height, width = rgba.shape[:2]
    top, left = round(placement.y - height / 2), round(placement.x - width / 2)
    return Layer(placement.class_name, rgba, top, left)


def _rotated(rgba: np.ndarray, angle: float) -> np.ndarray:
    height, width = rgba.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_width = int(np.ceil(height * sin + width * cos - 1e-6))  # cos 90 degrees is not quite 0
    new_height = int(np.ceil(height * cos + width * sin - 1e-6))
    matrix[:, 2] += ((new_width - width) / 2, (new_height - height) / 2)
    return cv2.warpAffine(np.ascontiguousarray(rgba), matrix, (new_width, new_height))


def _window(item: Layer, size: int) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns of the image that a layer covers, and the part of it inside."""
    height, width = item.rgba.shape[:2]
    top, left = max(item.top, 0), max(item.left, 0)
    bottom, right = min(item.top + height, size), min(item.left + width, size)
    inside = item.rgba[
        top - item.top : max(bottom - item.top, 0), left - item.left : max(right - item.left, 0)
    ]
    return slice(top, max(bottom, top)), slice(left, max(right, left)), inside


def visible_masks(layers: list[Layer], size: int) -> list[np.ndarray]:
    """Bool (size, size) per layer: where it is opaque and no later layer is."""
    owner = np.full((size, size), -1, np.int16)
    for index, item in enumerate(layers):
        rows, columns, inside = _window(item, size)
        owner[rows, columns][inside[..., 3] >= OPAQUE] = index
    return [owner == index for index in range(len(layers))]


def _visible_enough(item: Layer, mask: np.ndarray) -> bool:
    own = np.count_nonzero(item.rgba[..., 3] >= OPAQUE)
    return mask.sum() >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * own)


def paint(image: np.ndarray, item: Layer, gain: np.ndarray) -> None:
    """Blend a layer into a float32 image in place, its colours times `gain` (3,)."""
    rows, columns, inside = _window(item, len(image))
    alpha = inside[..., 3:].astype(np.float32) / 255
    colour = np.minimum(inside[..., :3] * gain.astype(np.float32), alpha * 255)
    image[rows, columns] = image[rows, columns] * (1 - alpha) + colour


def _photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Slight blur, exposure and sensor noise, so that flat drawings look less than perfect."""
    sigma = rng.uniform(0, 0.7)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = image * rng.uniform(0.85, 1.12)
    image = image + rng.normal(0, rng.uniform(1, 6), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
