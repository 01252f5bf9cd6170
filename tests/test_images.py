"""Images as the check and the model see them: turned once, 8 bits, or refused with a reason."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from coco_samples import CONTENT, HEIGHT, WIDTH, write
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from opmask.data import checks, images
from opmask.data.loader import read_image
from opmask.errors import UserError

# How the stored pixels of each EXIF orientation are turned upright (EXIF 2.3, table 6).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
FORMATS = {
    "jpg": {"quality": 95, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "mpo": {"quality": 95, "subsampling": 0},
}


def quarters() -> np.ndarray:
    """(48, 64, 3): four colours, that no two orientations show alike."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[:24, 32:] = (255, 0, 0), (0, 255, 0)
    pixels[24:, :32], pixels[24:, 32:] = (0, 0, 255), (255, 255, 0)
    return pixels


def save(path: Path, orientation: int, **options) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(path, exif=exif, **options)


def assert_seen_as(path: Path, expected: np.ndarray) -> None:
    height, width = expected.shape[:2]
    for decode in (False, True):
        assert images.upright_size(path, decode=decode) == (width, height)
    record = {"file_name": str(path), "height": height, "width": width}
    for image_format, channels in (("RGB", expected), ("BGR", expected[..., ::-1])):
        seen = read_image(record, image_format)
        assert seen.dtype == np.uint8
        assert np.abs(seen.astype(int) - channels).max(axis=2).mean() < 2
    with pytest.raises(UserError, match="cannot use this image"):
        read_image(record | {"height": height + 1}, "RGB")


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", FORMATS)
def test_an_orientation_is_applied_once_in_every_format(tmp_path, ending, orientation):
    path = tmp_path / f"image.{ending}"
    save(path, orientation, **FORMATS[ending])
    assert_seen_as(path, UPRIGHT[orientation](quarters()))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(
        ">I", zlib.crc32(kind + content)
    )  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_a_png_may_have_its_orientation_after_its_pixels(tmp_path, compressed):
    path, exif = tmp_path / "late.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(quarters()).save(path)
    raw = path.read_bytes()
    late = chunk(b"eXIf", exif.tobytes()[6:])
    if compressed:  # as ImageMagick wrote it before PNG had a chunk for it
        text = f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n".encode()
        late = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    path.write_bytes(raw[:-12] + late + raw[-12:])
    assert_seen_as(path, UPRIGHT[6](quarters()))


@pytest.mark.parametrize("ending", FORMATS)
def test_sizes_are_read_without_the_pixels(tmp_path, ending, monkeypatch):
    path, decoded = tmp_path / f"image.{ending}", []
    save(path, 6, **FORMATS[ending])
    Image.fromarray(quarters()).save(tmp_path / f"plain.{ending}")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    assert images.upright_size(path) == (48, 64)
    assert images.upright_size(tmp_path / f"plain.{ending}") == (64, 48)
    assert not decoded
    images.upright_size(path, decode=True)
    assert decoded


def test_an_orientation_in_xmp_counts(tmp_path):
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="8"/>')
    Image.fromarray(quarters()).save(tmp_path / "xmp.png", pnginfo=info)
    assert_seen_as(tmp_path / "xmp.png", UPRIGHT[8](quarters()))


def test_damaged_exif_leaves_the_image_as_it_is(tmp_path):
    path, info = tmp_path / "image.jpg", PngInfo()
    Image.fromarray(quarters()).save(path, exif=b"Exif\0\0no TIFF header", **FORMATS["jpg"])
    assert_seen_as(path, quarters())
    info.add_text("Raw profile type exif", "\nexif\n 4\nno hexadecimal")
    Image.fromarray(quarters()).save(tmp_path / "image.png", pnginfo=info)
    assert_seen_as(tmp_path / "image.png", quarters())


@pytest.mark.parametrize("ending", ["png", "tif", "jp2"])
def test_of_16_bits_the_high_byte_is_read(tmp_path, ending):
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / f"grey.{ending}")
    assert_seen_as(tmp_path / f"grey.{ending}", np.dstack([values // 256] * 3))


def test_big_endian_16_bits_are_read_alike(tmp_path):
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.frombytes("I;16B", (64, 64), values.astype(">u2").tobytes()).save(tmp_path / "be.tif")
    assert_seen_as(tmp_path / "be.tif", np.dstack([values // 256] * 3))


def test_16_bit_colour_is_read_as_16_bit_grey_is(tmp_path):
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    rows = b"".join(b"\0" + np.dstack([row] * 3).astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert_seen_as(tmp_path / "colour.png", np.dstack([values // 256] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_become_colour(tmp_path, mode):
    image = Image.fromarray(quarters()).convert(mode)
    image.save(tmp_path / "image.png")
    assert_seen_as(tmp_path / "image.png", np.asarray(image.convert("RGB")))


SIZES = dict(CONTENT["images"][0], file_name="bad.tif")


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.full((HEIGHT, WIDTH), 70000, np.int32), "I"),
        (np.full((HEIGHT, WIDTH), 0.5, np.float32), "F"),
        (np.full((HEIGHT, WIDTH), -3, np.int16), "I"),
    ],
)
def test_32_bits_and_floats_are_refused_by_check_and_loader(tmp_path, values, mode):
    content = CONTENT | {"images": [SIZES, *CONTENT["images"][1:]]}
    annotations, folder = write(tmp_path, content)
    if values.dtype == np.int16:
        Image.frombytes("I", (WIDTH, HEIGHT), values.astype(np.int32).tobytes()).save(
            folder / "bad.tif"
        )
    else:
        Image.fromarray(values).save(folder / "bad.tif")
    with pytest.raises(UserError, match=rf"bad.tif \(image 7\): mode {mode} is not of 8 or 16"):
        checks.check(annotations, folder)
    with pytest.raises(UserError, match=f"bad.tif: cannot use this image: mode {mode}"):
        read_image({"file_name": str(folder / "bad.tif")}, "RGB")


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_an_image_beyond_the_limit_is_named_with_it(tmp_path, ending):
    content = {**CONTENT, "images": [dict(image) for image in CONTENT["images"]]}
    content["images"][0] |= {"file_name": f"big.{ending}"}
    annotations, folder = write(tmp_path, content)
    Image.new("1", (14000, 13000)).save(folder / f"big.{ending}")
    refusal = "more than 178,956,970 pixels; scale it down or cut it into tiles"
    with pytest.raises(UserError, match=rf"big.{ending} \(image 7\): {refusal}"):
        checks.check(annotations, folder)
    with pytest.raises(UserError, match=f"big.{ending}: cannot use this image: {refusal}"):
        read_image({"file_name": str(folder / f"big.{ending}")}, "RGB")
    content["images"][0] |= {"width": 14000, "height": 13000}
    annotations, _ = write(tmp_path, content)
    with pytest.raises(UserError, match=rf"{refusal}: image 7 \(14000 × 13000\)"):
        checks.check(annotations, folder, images="exist")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot identify"), (b"GIF89a", ""), (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "")],
)
def test_what_is_no_image_is_named_with_the_reason(tmp_path, content, reason):
    (tmp_path / "7.png").write_bytes(content)
    with pytest.raises(images.UnusableImage, match=reason or "."):
        images.upright_size(tmp_path / "7.png")
    with pytest.raises(UserError, match=f"7.png: cannot use this image: .*{reason}"):
        read_image({"file_name": str(tmp_path / "7.png")}, "RGB")
