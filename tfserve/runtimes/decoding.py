"""Decodes all image files in requests to arrays, resized and normalized according to an `ImageSpec`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tfserve import colours
from tfserve.errors import Invalid
from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import MAX_PIXELS, BadImage
from tfserve.runtimes.image_spec import MODES, ImageSpec
from tfserve.tensors.specs import Array


def decode(spec: ImageSpec, number: int, data: bytes) -> tuple[Array, tuple[int, int]]:
    """The values of one file as float32 (height, width, channels), and the file's own height and width, upright.

    Raises `Invalid` with `number`, the file's position in the request.
    """
    channels = spec.channels or 3
    try:
        pixels, size = _read(spec, MODES[channels], data)
    except BadImage as error:
        raise Invalid(
            f"Image {number} can't be read: {error}. Expected a {', '.join(image_files.FORMATS[:-1])} or"
            f" {image_files.FORMATS[-1]} file, got {len(data)} bytes that begin with {data[:8]!r}."
        ) from None
    width, height = size
    to = (spec.width or width, spec.height or height)
    pixels = pixels.reshape((*pixels.shape[:2], channels))
    if spec.channel_order == "BGR":
        pixels = pixels[..., [2, 1, 0, *range(3, channels)]]
    array = pixels.astype(np.float32) if pixels.shape[1::-1] == to else resized(pixels, to)
    return spec.normalized(array), (height, width)


def _read(spec: ImageSpec, mode: str, data: bytes) -> tuple[Array, image_files.Size]:
    """The pixels, in the size of the input with antialias, and the file's own size. Raises `BadImage`."""
    background = colours.colour(spec.background)
    if not spec.antialias:
        return image_files.read_array(data, mode=mode, background=background)
    near = (spec.width or MAX_PIXELS, spec.height or MAX_PIXELS)
    picture = image_files.read(data, mode=mode, near=near, background=background)
    width, height = picture.size
    image = image_files.resized(picture.image, (spec.width or width, spec.height or height))
    return np.asarray(image), picture.size


def resized(image: Array, size: tuple[int, int]) -> Array:
    """(height, width, channels) as float32 of another size, (width, height), as `tf.image.resize` does by default.

    Each value is taken from the four pixels around it, with TensorFlow's roundings.
    """
    height, _, channels = image.shape
    above, below, down = _places(height, size[1])
    if height >= 2 * size[1]:  # then many rows are not needed
        image = image.take(np.concatenate([above, below]), 0)
        above, below = np.arange(size[1]), np.arange(size[1], 2 * size[1])
    left, right, across = _values(image.shape[1], size[0], channels)
    # In place and by whole rows, because allocating memory and short loops cost more than the calculation.
    lines = image.reshape((len(image), -1))
    rows: Array = lines.take(right, 1).astype(np.float32)
    start: Array = lines.take(left, 1).astype(np.float32)
    rows -= start
    rows *= across
    rows += start
    start = rows.take(above, 0)
    values: Array = rows.take(below, 0)
    values -= start
    values *= down[:, np.newaxis]
    values += start
    return values.reshape((size[1], size[0], channels))


@lru_cache(64)
def _values(old: int, new: int, channels: int) -> tuple[Array, Array, Array]:
    """`_places` for each value of a row instead of each pixel."""
    first, second, distance = _places(old, new)
    channel = np.arange(channels)
    indices = [(place[:, np.newaxis] * channels + channel).ravel() for place in (first, second)]
    return indices[0], indices[1], np.repeat(distance, channels)


@lru_cache(64)
def _places(old: int, new: int) -> tuple[Array, Array, Array]:
    """For each of the new pixels the old ones around its centre, and how far it is from the first to the second."""
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    first = np.floor(at)
    ends = [np.clip(place, 0, old - 1).astype(np.intp) for place in (first, first + 1)]
    return ends[0], ends[1], at - first
