"""Image files to arrays: decoded, resized and normalized as an `ImageSpec` says. All served files are decoded here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tfserve import colours
from tfserve.errors import Invalid
from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import MAX_PIXELS as MAX_PIXELS
from tfserve.runtimes.image_files import BadImage
from tfserve.runtimes.image_spec import MODES, ImageSpec
from tfserve.tensors import Array


def decode(spec: ImageSpec, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
    """The values of one file as float32 (height, width, channels), and the file's own height and width, upright.

    Raises `Invalid`, which says by `number` which file it is.
    """
    channels = spec.channels or 3
    near = (spec.width or MAX_PIXELS, spec.height or MAX_PIXELS) if spec.antialias else None
    try:
        picture = image_files.read(data, mode=MODES[channels], near=near, background=colours.colour(spec.background))
    except BadImage as error:
        raise Invalid(
            f"Image {number} can't be read: {error}. The bytes of a {', '.join(image_files.FORMATS[:-1])} or"
            f" {image_files.FORMATS[-1]} file were expected; {len(data)} bytes beginning with {data[:8]!r} were given."
        ) from None
    width, height = picture.size
    to = (spec.width or width, spec.height or height)
    plain = image_files.resized(picture.image, to) if spec.antialias else picture.image
    pixels = np.asarray(plain).reshape((plain.height, plain.width, channels))
    if spec.channel_order == "BGR":
        pixels = pixels[..., [2, 1, 0, *range(3, channels)]]
    array = pixels.astype(np.float32) if plain.size == to else resized(pixels, to)
    return spec.normalized(array), (height, width)


def resized(image: Array, size: tuple[int, int]) -> Array:
    """(height, width, channels) as float32 of another size, (width, height), as `tf.image.resize` does by default.

    Each value is taken from the four pixels around it.
    """
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
