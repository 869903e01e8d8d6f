"""A few held-out images, kept with a SavedModel: the server compares other runtimes with TensorFlow by them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tfserve.colours import Colour
from tfserve.runtimes import image_files, image_metadata
from tfserve.runtimes.image_files import WHITE

MOST = 12
LARGEST_SIDE = 512
MAX_FILE_BYTES = 512 * 1024
_KEPT = ("JPEG", "PNG", "GIF", "BMP", "WebP")
"""Formats that every server reads, whatever is installed there."""


def write(files: Sequence[bytes], saved_model: Path, background: Colour = WHITE) -> None:
    """Writes the first of these image files into the SavedModel's folder, large and rare ones converted."""
    place = saved_model / image_metadata.HELD_OUT
    place.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for number, data in enumerate(files[:MOST]):
            name, content = _small(data, background)
            archive.writestr(f"{number:02}{name}", content)


def _small(data: bytes, background: Colour) -> tuple[str, bytes]:
    """The suffix and the bytes of an image that is at most 512 pixels wide and high."""
    form = image_files.format_of(data[: image_files.HEAD_BYTES])
    image, size, *_ = image_files.read(data, near=(LARGEST_SIDE // 2, LARGEST_SIDE // 2), background=background)
    if max(size) <= LARGEST_SIDE and len(data) <= MAX_FILE_BYTES and form in _KEPT:
        return f".{form.lower()}", data
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return ".jpg", buffer.getvalue()
