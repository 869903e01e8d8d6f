"""Image files to arrays: decoded, resized and scaled as an `ImageSpec` says."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np

from tfserve.errors import Invalid
from tfserve.runtimes.image_spec import MODES, ImageSpec
from tfserve.tensors import Array

MAX_PIXELS = 64 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""No others: some readers of Pillow start programs, or take what is hardly an image."""


def decode(spec: ImageSpec, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
    """The pixels of one file as float32 (height, width, channels), and the file's own height and width.

    Raises `Invalid`, which says by `number` which file it is.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Invalid(f"Image {number} has {width}x{height} pixels; at most {MAX_PIXELS} are read.")
            to = (spec.width or width, spec.height or height)
            if spec.antialias:
                image.draft("RGB", (2 * to[0], 2 * to[1]))
            eight = image.point(lambda value: value / 256, "L") if image.mode.startswith("I;16") else image
            plain = eight.convert(MODES[spec.channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        told = str(error).split("<")[0].strip() or type(error).__name__
        raise Invalid(
            f"Image {number} can't be decoded ({told}): the bytes of a JPEG, PNG, GIF, BMP or WebP file were"
            f" expected; {len(data)} bytes beginning with {data[:8]!r} were given."
        ) from None
    if plain.size != to and spec.antialias:
        plain = plain.resize(to, Image.Resampling.BILINEAR)
    pixels = np.asarray(plain).reshape((plain.height, plain.width, spec.channels))
    array = pixels.astype(np.float32) if plain.size == to else _taken_between(pixels, to)
    if spec.scale != 1.0 or spec.offset != 0.0:
        array *= np.asarray(spec.scale, np.float32)
        array += np.asarray(spec.offset, np.float32)
    return array, (height, width)


def _taken_between(image: Array, size: tuple[int, int]) -> Array:
    """Each value from the four pixels around its place; `size` is (width, height)."""
    above, below, down = _places(image.shape[0], size[1])
    left, right, across = _places(image.shape[1], size[0])
    # In place, since new memory for each step costs as much as the step.
    rows: Array = image.take(above, 0).astype(np.float32)
    rows += (image.take(below, 0) - rows) * down[:, np.newaxis, np.newaxis]
    values: Array = rows.take(left, 1)
    values += (rows.take(right, 1) - values) * across[np.newaxis, :, np.newaxis]
    return values


@lru_cache(64)
def _places(old: int, new: int) -> tuple[Array, Array, Array]:
    """For each of the new pixels the old ones around its centre, and how far it is from the first to the second."""
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    first = np.floor(at)
    ends = [np.clip(place, 0, old - 1).astype(np.intp) for place in (first, first + 1)]
    return ends[0], ends[1], at - first
