"""Simple varied backgrounds: sky over ground, wall over floor, a table top seen from above."""

from collections.abc import Sequence

import cv2
import numpy as np

from opmask.miniature.catalogue import SceneType

SKIES = ((150, 190, 230), (196, 214, 228), (232, 206, 176), (168, 174, 182), (120, 160, 206))
WALLS = ((222, 212, 192), (188, 206, 208), (208, 186, 180), (176, 186, 160), (224, 224, 226))


def background(rng: np.random.Generator, scene: SceneType, horizon: float, size: int) -> np.ndarray:
    """RGB float32 (size, size, 3), 0..255; `horizon` is a fraction of the height."""
    ground = _jittered(rng, scene.grounds)
    if scene.layout == "top":
        image = _gradient(ground * rng.uniform(0.85, 1.05), ground, size)
        _table_top(rng, image)
    else:
        above = _jittered(rng, SKIES if scene.layout == "sg" else WALLS)
        image = _gradient(above * rng.uniform(0.8, 1.0), above * 1.05, size)
        row = int(horizon * size)
        if scene.layout == "sg":
            _skyline(rng, image, row, scene.name)
        else:
            _wall_decor(rng, image, row)
        image[row:] = _gradient(ground * 0.85, ground * 1.08, size)[row:]
        _ground_lines(rng, image, row, ground)
    return image + _texture(rng, size)[..., None]


def _jittered(rng: np.random.Generator, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    return np.array(palette[int(rng.integers(len(palette)))], np.float32) + rng.normal(0, 10, 3)


def _gradient(top: np.ndarray, bottom: np.ndarray, size: int) -> np.ndarray:
    t = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    column = (1 - t) * top + t * bottom
    return np.broadcast_to(column, (size, size, 3)).astype(np.float32).copy()


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise of three octaves, float32 (size, size), standard deviation about 5."""
    total = np.zeros((size, size), np.float32)
    for cells in (5, 16, 48):
        coarse = rng.normal(0, rng.uniform(1, 5), (cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    return total


def _colour(base: np.ndarray, factor: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.clip(base * factor, 0, 255))


def _skyline(rng: np.random.Generator, image: np.ndarray, row: int, scene: str) -> None:
    """Clouds, then buildings in a street and hills or bushes elsewhere."""
    size = len(image)
    for _ in range(rng.integers(0, 4)):
        centre = (int(rng.integers(size)), int(rng.integers(max(row, 1))))
        axes = (int(rng.integers(8, 30) * size / 160), int(rng.integers(3, 9) * size / 160))
        cv2.ellipse(image, centre, axes, 0, 0, 360, (238.0, 240.0, 243.0), -1, cv2.LINE_AA)
    for _ in range(rng.integers(1, 6)):
        x, width = int(rng.integers(-10, size)), int(rng.integers(14, 45) * size / 160)
        height = int(rng.integers(8, 50) * size / 160)
        if scene == "street":
            colour = _colour(np.array((160, 140, 126)), rng.uniform(0.6, 1.3))
            cv2.rectangle(image, (x, row - height), (x + width, row), colour, -1)
        else:
            colour = _colour(np.array((104, 132, 96)), rng.uniform(0.7, 1.3))
            cv2.ellipse(image, (x, row), (width, height // 2), 0, 180, 360, colour, -1, cv2.LINE_AA)


def _wall_decor(rng: np.random.Generator, image: np.ndarray, row: int) -> None:
    """Tiles or stripes, and frames or windows."""
    size = len(image)
    shade = _colour(image[0, 0], rng.uniform(0.88, 0.97))
    if rng.random() < 0.5:
        step = int(rng.integers(10, 26))
        for x in range(int(rng.integers(step)), size, step):
            cv2.line(image, (x, 0), (x, row), shade, 1)
        for y in range(0, row, step) if rng.random() < 0.5 else ():
            cv2.line(image, (0, y), (size, y), shade, 1)
    for _ in range(rng.integers(0, 3)):
        x, y = int(rng.integers(size)), int(rng.integers(max(row // 2, 1)))
        corner = (x + int(rng.integers(14, 46)), y + int(rng.integers(12, 36)))
        glass = _colour(np.array((178, 200, 214)), rng.uniform(0.7, 1.15))
        cv2.rectangle(image, (x, y), corner, glass, -1)
        cv2.rectangle(image, (x, y), corner, _colour(image[0, 0], 0.7), 2)


def _ground_lines(rng: np.random.Generator, image: np.ndarray, row: int, base: np.ndarray) -> None:
    """A few straight lines that run to a vanishing point: planks, lanes, furrows."""
    size = len(image)
    if rng.random() < 0.5:
        vanishing = (int(rng.integers(size)), row)
        colour = _colour(base, rng.uniform(0.8, 1.2))
        for x in np.linspace(-size, 2 * size, int(rng.integers(4, 14))):
            cv2.line(image, vanishing, (int(x), size), colour, 1, cv2.LINE_AA)


def _table_top(rng: np.random.Generator, image: np.ndarray) -> None:
    """Wood grain or a checked cloth, then place mats and sheets of paper."""
    size, base = len(image), image[0, 0].copy()
    kind = rng.integers(3)
    if kind == 0:
        for y in range(0, size, int(rng.integers(4, 14))):
            slope = int(rng.integers(-3, 4))
            cv2.line(image, (0, y), (size, y + slope), _colour(base, rng.uniform(0.88, 1.08)), 1)
    elif kind == 1:
        step = int(rng.integers(10, 24))
        for start in range(0, size, 2 * step):
            image[start : start + step] *= 0.92
            image[:, start : start + step] *= 0.92
    for _ in range(rng.integers(0, 4)):
        centre = tuple(float(v) for v in rng.uniform(0, size, 2))
        extent = tuple(float(v) * size / 160 for v in rng.uniform(25, 75, 2))
        corners = cv2.boxPoints((centre, extent, float(rng.uniform(0, 90))))
        colour = _colour(base, rng.uniform(0.75, 1.25))
        cv2.fillConvexPoly(image, corners.astype(np.int32), colour, cv2.LINE_AA)
