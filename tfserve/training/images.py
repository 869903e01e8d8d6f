"""One image file: whether it is good for training, and its pixels.

Orientation tags (EXIF) are not followed: neither here nor by the exported model, so that both see the same pixels.
An alpha channel is dropped, as the exported model drops it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.runtimes.decoding import FORMATS, MAX_PIXELS
from tfserve.tensors import Array
from tfserve.training.first_words import first_words

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
MAX_FILE_BYTES = 256 * 1024 * 1024

_GREY_MODES = ("1", "L", "LA", "La")
_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBX", "RGBa")

_REASONS = {
    "CMYK": "CMYK colours: save it as RGB",
    "YCCK": "CMYK colours: save it as RGB",
    "LAB": "Lab colours: save it as RGB",
    "HSV": "HSV colours: save it as RGB",
}
_BMP_ORDERS = ("BGR", "BGRX", "BGRA")
_WINDOWS_HEADER_BYTES = 40
_SIXTEEN_BIT = "16 bits per channel or more: save it with 8"


class Bad(Exception):
    """The image is left out; the message is the reason."""


class Look(msgspec.Struct, frozen=True):
    """What one look at a good image tells. `digest` is a hash of the file's bytes."""

    width: int
    height: int
    grey: bool
    digest: str


def look(file: Path) -> Look:
    """Decodes a file to its end. Raises `Bad`."""
    data = read_bytes(file)
    image = _open(data)
    _check(image, data)
    grey, (width, height) = image.mode in _GREY_MODES, image.size
    try:
        # Decoding to an eighth of the size still reads all of a JPEG, with little memory.
        image.draft("L", (width // 8 + 1, height // 8 + 1))
        image.load()
    except Exception as error:  # a broken file can raise anything: SyntaxError, struct.error, EOFError, …
        raise Bad(f"corrupt: {first_words(error, 120)}") from error
    return Look(width, height, grey, hashlib.blake2b(data, digest_size=16).hexdigest())


def pixels(file: Path, size: tuple[int, int]) -> Array:
    """The image as RGB, (height, width, 3) uint8 of this size. Raises `OSError` when it is gone or broken by now."""
    from PIL import Image

    height, width = size
    with Image.open(file) as image:
        # Reads a large JPEG at a half, a quarter or an eighth, but never near the size that is wanted.
        image.draft("RGB", (2 * width, 2 * height))
        rgb = image.convert("RGB")
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def full_pixels(file: Path) -> Array:
    """The image as RGB in its own size, (height, width, 3) uint8."""
    from PIL import Image

    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def read_bytes(file: Path) -> bytes:
    """All of a file, unless it is too large or no file. Raises `Bad`."""
    try:
        if not file.is_file() and file.exists():
            raise Bad("no file, but something that only looks like one")
        size = file.stat().st_size
        if not size:
            raise Bad("empty: 0 bytes")
        if size > MAX_FILE_BYTES:
            raise Bad(f"huge: {size // 2**20} MiB, at most {MAX_FILE_BYTES // 2**20} are read")
        return file.read_bytes()
    except OSError as error:
        raise Bad(f"can't be read: {error.strerror}") from error


def _open(data: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    # Our own limit, with a reason that people understand, comes right after.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Bad(f"no image: its content is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # see above: a broken file can raise anything
        raise Bad(f"corrupt: {first_words(error, 120)}") from error


def _check(image: Any, data: bytes) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Bad(f"huge: {image.width}x{image.height} pixels, at most {MAX_PIXELS // 1_000_000} million are read")
    if getattr(image, "n_frames", 1) > 1:
        raise Bad(f"animated: {image.n_frames} pictures in one file")
    if image.mode in _REASONS:
        raise Bad(_REASONS[image.mode])
    if image.mode not in _MODES or (image.format == "PNG" and data[24] == 16):
        raise Bad(_SIXTEEN_BIT)
    if image.format == "BMP" and not _is_plain_bmp(image, data):
        raise Bad("a BMP with a palette or of a rare kind, which TensorFlow reads wrongly: save it as PNG")


def _is_plain_bmp(image: Any, data: bytes) -> bool:
    """24 or 32 bits in the order blue, green, red, or 8 bits of grey: what TensorFlow's decoder reads as Pillow does.

    It takes the numbers of a palette for grey levels, knows no compression and no other order, and no OS/2 header.
    """
    (decoder, _, _, (order, *_)), header_bytes, bits = image.tile[0], data[14], data[28]
    is_grey = order == "L" and bits == 8
    return decoder == "raw" and header_bytes >= _WINDOWS_HEADER_BYTES and (is_grey or order in _BMP_ORDERS)
