"""Figures as data URIs, small enough for all of them to fit into one page."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from opmask.errors import UserError

BUDGET = 400_000  # bytes of one PNG; ten of them, in base64, are 5.3 MB
_SMALLEST = 200  # pixels wide; no picture gets smaller
_ENLARGED = 1.25  # on a screen, against the paper's column
_SCREEN_DPI, _DEFAULT_DPI = 96, 300


@dataclass(frozen=True)
class Picture:
    """An image for `<img>`: its data URI, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


def embed(path: Path, budget: int = BUDGET) -> Picture:
    """A PNG file as a data URI of a PNG of at most `budget` bytes.

    A larger one first gets a palette of 256 colours, then also fewer pixels, until it fits; the
    size at which it is shown stays. Raises UserError if it is no picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            dpi = float(image.info.get("dpi", (_DEFAULT_DPI,))[0])
            size = image.size
            content = _shrink(path.read_bytes(), image.convert("RGB"), budget)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from error
    scale = _ENLARGED * _SCREEN_DPI / dpi
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return Picture(uri, *(max(1, round(side * scale)) for side in size))


def _shrink(content: bytes, image: Image.Image, budget: int) -> bytes:
    """`content`, the file of `image`, or a smaller picture of it in `budget` bytes."""
    width = image.width
    while len(content) > budget and width >= _SMALLEST:
        size = width, max(1, round(image.height * width / image.width))
        stream = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).quantize(256).save(stream, "PNG")
        content = stream.getvalue()
        # a little less than would do if the size went with the number of pixels
        width = round(width * min(0.9, 0.97 * math.sqrt(budget / len(content))))
    return content
