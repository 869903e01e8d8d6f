"""Reads one image file: checks whether it is usable for training, and decodes its pixels.

Files are decoded as they are when they are served (`tfserve.runtimes.image_files`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.colours import Colour
from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import MAX_FILE_BYTES, MAX_PIXELS, SUFFIXES, WHITE, BadImage
from tfserve.tensors.specs import Array

__all__ = [
    "MAX_FILE_BYTES", "MAX_PIXELS", "SUFFIXES", "Bad", "ImageProperties", "decoded", "inspect", "pixels", "read_bytes",
    "unchanged",
]  # fmt: skip

Bad = BadImage
"""The image is left out; the message is the reason."""

THUMBNAIL = (16, 16)
DETAIL = (32, 32)
_HASH = (9, 8)
"""Width and height of the grey image whose neighbours are compared for the perceptual hash."""
FAINT = 0.26
"""Images with 16 bits per value that use less of their range are dark. Those of cameras with 14 bits use a quarter."""
_LEVELS = 4
_SAME = 3
"""Values of 0 to 255 that differ by no more look the same."""


class ImageProperties(msgspec.Struct, frozen=True):
    """The properties of a usable image; `width` and `height` are those of the upright image.

    `digest` is a hash of the file's bytes, `hash` a perceptual one of 64 bits, `thumbnail` 16x16 pixels of RGB,
    `detail` 32x32 of grey.
    `shape_in_alpha` says that the visible pixels all have one colour, so that only the alpha channel shows a shape, and
    `blank` that transparent parts and background make all pixels alike. `faint` is the largest value and the largest
    possible one of an image with 16 bits that are hardly used: what is left of it in 8 bits is (nearly) black.
    """

    width: int
    height: int
    grey: bool
    digest: str
    hash: int = 0
    thumbnail: bytes = b""
    detail: bytes = b""
    animated: bool = False
    shape_in_alpha: bool = False
    blank: bool = False
    faint: tuple[int, int] | None = None

    @property
    def is_black(self) -> bool:
        """Whether an image with 16 bits has no more than a few levels of grey left."""
        return self.faint is not None and self.faint[0] * 256 < _LEVELS * self.faint[1]


class _Pixels:
    """Properties that only the image as it is stored shows."""

    def __init__(self) -> None:
        #: whether the alpha channel alone has a shape in it
        self.has_shape = False
        self.faint: tuple[int, int] | None = None
        #: whether it has more than 8 bits per value, of which Pillow makes no RGBA
        self.is_deep = False

    def __call__(self, image: Any) -> None:
        largest = image_files.largest_value(image)
        if largest is not None:
            self.is_deep = True
            self.faint = largest if largest[0] < FAINT * largest[1] else None
        elif image.has_transparency_data:
            self.inspect_alpha(image)

    def inspect_alpha(self, image: Any) -> None:
        rgba = np.asarray(image.convert("RGBA"))
        visible = rgba[..., 3] > 0
        if visible.any() and int(np.ptp(rgba[..., 3])) > _SAME:
            self.has_shape = bool((np.ptp(rgba[visible][:, :3], axis=0) <= _SAME).all())


def inspect(file: Path, background: Colour = WHITE) -> ImageProperties:
    """Decodes a file to its end. Raises `Bad`."""
    data = read_bytes(file)
    stored = _Pixels()
    # Decoding to a smaller size still reads all of a JPEG, with little memory.
    picture = image_files.read(data, near=(64, 64), background=background, inspect=stored)
    if stored.is_deep and picture.has_alpha:
        stored.inspect_alpha(image_files.read(data, mode="RGBA").image)
    width, height = picture.size
    is_grey = picture.grey and (not picture.has_alpha or len({*background}) == 1)
    return ImageProperties(
        width, height, is_grey, _digest(data),
        hash=_perceptual_hash(picture.image), thumbnail=image_files.resized(picture.image, THUMBNAIL).tobytes(),
        detail=image_files.resized(picture.image.convert("L"), DETAIL).tobytes(),
        animated=image_files.is_animated(data), shape_in_alpha=stored.has_shape, faint=stored.faint,
        blank=picture.has_alpha and all(high - low <= _SAME for low, high in picture.image.getextrema()),
    )  # fmt: skip


def pixels(file: Path, size: tuple[int, int], background: Colour = WHITE) -> Array:
    """The image as RGB, (height, width, 3) uint8 of this size. Raises `OSError` if it was deleted or damaged."""
    try:
        return decoded(file.read_bytes(), background, size)
    except Bad as error:
        raise OSError(f"{file}: {error}") from error


def decoded(data: bytes, background: Colour, size: tuple[int, int] | None = None) -> Array:
    """The image as RGB, (height, width, 3) uint8 of this size or of its own. Raises `Bad`."""
    if size is None:
        return np.asarray(image_files.read(data, background=background).image)
    to = size[::-1]
    return np.asarray(image_files.resized(image_files.read(data, near=to, background=background).image, to))


def unchanged(file: Path, digest: str) -> bytes | None:
    """The bytes of a file; None if it was deleted or changed since its digest was made."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    return data if _digest(data) == digest else None


def read_bytes(file: Path) -> bytes:
    """The content of a file. Raises `Bad` if it is too large or not a regular file."""
    try:
        if not file.is_file() and file.exists():
            raise Bad("not a regular file")
        size = file.stat().st_size
        if not size:
            raise Bad("empty: 0 bytes")
        if size > MAX_FILE_BYTES:
            raise Bad(f"huge: {size // 2**20} MiB (limit: {MAX_FILE_BYTES // 2**20} MiB)")
        return file.read_bytes()
    except OSError as error:
        raise Bad(f"can't be read: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _perceptual_hash(image: Any) -> int:
    """64 bits: whether each pixel of a small grey image is brighter than its neighbour (dHash)."""
    grey = np.asarray(image_files.resized(image.convert("L"), _HASH)).astype(np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")
