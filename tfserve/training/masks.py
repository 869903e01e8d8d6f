"""One mask file: a value for each pixel, 0 is the background."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.runtimes.decoding import MAX_PIXELS
from tfserve.tensors import Array
from tfserve.training.first_words import first_words
from tfserve.training.images import Bad, read_bytes

SUFFIXES = (".png", ".gif", ".bmp")


def read(file: Path) -> Array:
    """The values, (height, width) uint8. Raises `Bad` with the reason.

    Grey levels are the values. So are the numbers of the colours in a file with a palette, unless the palette itself
    is grey: then the levels.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(read_bytes(file))) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise Bad(f"animated: {count} pictures in one file")
            if image.width * image.height > MAX_PIXELS:
                raise Bad(f"huge: {image.width}x{image.height} pixels")
            return _values(image)
    except Bad:
        raise
    except Exception as error:  # a broken file can raise anything
        raise Bad(f"can't be read: {first_words(error, 120)}") from error


def _values(image: Any) -> Array:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L"))
    if image.mode == "P":
        return _palette_values(image)
    if image.mode in ("RGB", "RGBA"):
        return _grey_of_colours(np.asarray(image.convert("RGB")))
    if image.mode.startswith("I"):
        return _narrow(np.asarray(image))
    raise Bad(f"its colours are {image.mode}; one value from 0 to 255 for each pixel was expected")


def _palette_values(image: Any) -> Array:
    indexes = np.asarray(image)
    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indexes)
    colours = palette[used[used < len(palette)]]
    grey = bool((colours == colours[:, :1]).all())
    return palette[:, 0][indexes] if grey and len(colours) == len(used) else indexes


def _grey_of_colours(colours: Array) -> Array:
    if not (colours == colours[:, :, :1]).all():
        raise Bad("it has colours; one value from 0 to 255 for each pixel was expected")
    return colours[:, :, 0]


def _narrow(values: Array) -> Array:
    if values.min() < 0 or values.max() > 255:
        raise Bad(f"it has values from {values.min()} to {values.max()}; 0 to 255 were expected")
    return values.astype(np.uint8)
