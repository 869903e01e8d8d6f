"""Image files as people have them: turned by a tag, transparent, of many formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Transpose

#: from an upright picture to the pixels that a camera stores with the orientation
STORED = {
    1: None, 2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_90, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_270,
}  # fmt: skip


def picture(width: int = 48, height: int = 32, *, seed: int = 0) -> Image.Image:
    """Smooth, and different in each corner, so that it survives compression and shows how it is turned."""
    random = np.random.default_rng(seed)
    corners = Image.fromarray(random.permutation(np.linspace(20, 235, 12)).reshape(2, 2, 3).astype(np.uint8))
    return corners.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    best = {"JPEG": {"quality": 98, "subsampling": 0}, "MPO": {"quality": 98}, "WEBP": {"lossless": True}}
    file = io.BytesIO()
    image.save(file, form, **best.get(form, {}), **options)
    return file.getvalue()


def turned(image: Image.Image, form: str, orientation: int, **options: Any) -> bytes:
    """A file that shows the image upright to whoever follows its EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A phone"
    method = STORED[orientation]
    stored = image if method is None else image.transpose(method)
    return encoded(stored, form, exif=exif.tobytes(), **options)


def see_through(image: Image.Image, mode: str = "RGBA") -> Image.Image:
    """The left half of the image transparent, with a soft edge."""
    alpha = np.clip((np.arange(image.width) - image.width / 2) * 40 + 128, 0, 255).astype(np.uint8)
    result = image.convert("RGBA")
    result.putalpha(Image.fromarray(np.tile(alpha, (image.height, 1))))
    return result.convert(mode)


def over(image: Image.Image, background: tuple[int, int, int]) -> np.ndarray:
    """The pixels of an image with alpha over a background."""
    values = np.asarray(image.convert("RGBA")).astype(float)
    share = values[..., 3:] / 255
    return values[..., :3] * share + np.array(background) * (1 - share)
