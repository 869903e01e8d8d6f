"""Small versions of image files, for people. Never more than two are decoded at a time in a web process."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from PIL import Image, ImageOps

from tfserve.errors import NotFound

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS, MAX_FILE_BYTES = 100_000_000, 64 * 1024 * 1024
QUALITY = 80
_at_a_time = asyncio.Semaphore(2)


async def thumbnail(file: Path, side: int) -> bytes:
    """A WebP file whose larger side has at most `side` pixels. Raises `NotFound` if the file can't be shown."""
    async with _at_a_time:
        return await asyncio.to_thread(_thumbnail, file, side)


def placeholder() -> bytes:
    """A grey WebP file, in place of an image that can't be shown."""
    return _webp(Image.new("RGB", (16, 16), (160, 160, 160)))


def _thumbnail(file: Path, side: int) -> bytes:
    try:
        if file.suffix.lower() not in SUFFIXES or not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            raise NotFound(f"{file.name!r} is not an image that can be shown.")
        Image.MAX_IMAGE_PIXELS = None  # our own limit is checked right after
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotFound(f"{file.name!r} has more than {MAX_PIXELS:,} pixels.")
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            return _webp(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    except NotFound:
        raise
    except Exception as error:  # a broken file can raise anything
        raise NotFound(f"{file.name!r} can't be shown: {error}.") from None


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WebP", quality=QUALITY)
    return buffer.getvalue()
