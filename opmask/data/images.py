"""Image files as check, training, evaluation and prediction see them: upright, 8 bits a channel.

*Upright*: an EXIF (or XMP) orientation is applied exactly once, in every format that has one.
Pillow itself applies a TIFF's, so that detectron2, which goes by the tag again, turns it twice.

*8 bits*: of 16-bit grey values the high byte is taken, which is what Pillow makes of 16-bit colour:
one scale for all images, with nothing clipped. An image that uses less than the full range (a
12-bit camera's, say) comes out dark, but equally dark in training and at test. 32-bit and floating
point values have no range that is known beforehand. To stretch each image to its own would make
the same value mean another grey in another image, so these are refused.
"""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 178_956_970  # Pillow's own limit, against decompression bombs
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", *_SIXTEEN_BITS)
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)


class UnusableImage(Exception):
    """Why an image file cannot be used, in words that go after its name."""


def upright_size(path: Path, *, decode: bool = False) -> tuple[int, int]:
    """(width, height) of what `load` gives; without `decode` the pixels are not read.

    Raises UnusableImage, of a truncated file only with `decode`.
    """
    try:
        with _open(path) as image:
            if decode or (image.format == "PNG" and _has_metadata_after_pixels(path)):
                image.load()
            width, height = image.size
            return (height, width) if _orientation(image) in _SWAPS_SIDES else (width, height)
    except Exception as error:
        raise _explained(error) from error


def load(path: Path) -> Image.Image:
    """The upright image, of a mode that Pillow converts to RGB. Raises UnusableImage."""
    try:
        with _open(path) as image:
            image.load()
            turn = _TURNS.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
            if image.mode not in _SIXTEEN_BITS:
                return upright
            return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    except Exception as error:
        raise _explained(error) from error


def _open(path: Path) -> Image.Image:
    image = Image.open(path)
    if image.mode in MODES:
        return image
    image.close()
    raise UnusableImage(f"mode {image.mode} is not of 8 or 16 bits; save it as one of these")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow has turned it, its size included
    try:
        # Of the base class: a PNG's own decodes the pixels to look behind them.
        return Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the pixels unusable
        return 1


def _has_metadata_after_pixels(path: Path) -> bool:
    """Whether a PNG has chunks that may hold its orientation where only decoding it gets to."""
    pixels = False
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels |= kind == b"IDAT"
            file.seek(length + 4, 1)  # and its checksum
    return False


def _explained(error: Exception) -> UnusableImage:
    # Pillow's decoders raise all kinds of exceptions over damaged files.
    if isinstance(error, UnusableImage):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return UnusableImage(f"more than {MAX_PIXELS:,} pixels; scale it down or cut it into tiles")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnusableImage(" ".join(reason.split()))
