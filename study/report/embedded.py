"""Figures as data URIs, small enough for all of them to fit into one page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from opmask.errors import UserError

BUDGET = 60_000  # bytes of a PNG that is embedded as it is; larger ones become WebP
QUALITY = 70  # of WebP
_SCREEN_DPI, _DEFAULT_DPI = 96, 300


@dataclass(frozen=True)
class EmbeddedImage:
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
        with Image.open(io.BytesIO(content)) as image:
            dpi = float(image.info.get("dpi", (_DEFAULT_DPI,))[0])
            size = image.size
            pixels = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error})") from error
    if len(content) > budget:
        stream = io.BytesIO()
        pixels.save(stream, "WEBP", quality=QUALITY)
        content, kind = stream.getvalue(), "webp"
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return EmbeddedImage(
        uri, *(max(1, round(side * enlarged * _SCREEN_DPI / dpi)) for side in size)
    )
