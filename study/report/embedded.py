"""Figures as data URIs, small enough for all of them to fit into one page."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from opmask.errors import UserError

BUDGET = 60_000  # bytes of a PNG that is embedded as it is; larger ones become WebP
QUALITY = 70  # of WebP
_SCREEN_DPI, _DEFAULT_DPI = 96, 300


class EmbeddedImage(NamedTuple):
    """An image for `<img>`: its data URI, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


def embed(path: Path, enlarged: float = 1.5, budget: int = BUDGET) -> EmbeddedImage:
    """A PNG file as a data URI, of PNG up to `budget` bytes, else of WebP with as many pixels.

    enlarged: how large it is on a screen, against print. Raises UserError if it is no picture.
    """
    content, kind = path.read_bytes(), "png"
    try:
        image = Image.open(io.BytesIO(content))
        pixels = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from error
    if len(content) > budget:
        stream, kind = io.BytesIO(), "webp"
        pixels.save(stream, "WEBP", quality=QUALITY)
        content = stream.getvalue()
    scale = enlarged * _SCREEN_DPI / float(image.info.get("dpi", (_DEFAULT_DPI,))[0])
    width, height = (max(1, round(side * scale)) for side in image.size)
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return EmbeddedImage(uri, width, height)
