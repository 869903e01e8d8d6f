"""Decodes ordinary JPEG files with libjpeg-turbo, without Pillow's copies of the pixels.

Pillow uses the same library. It still reads the header, and decodes everything that is unusual or damaged, so pixels
and error messages are the same as without this module.
"""

from __future__ import annotations

from typing import Any

import simplejpeg

from tfserve.tensors.specs import Array

_MODES = ("RGB", "L")
"""What Pillow calls files with these colours. It converts others: CMYK."""


def pixels(data: bytes, opened: Any) -> Array | None:
    """uint8 (height, width, 3), or (height, width) of a grey file. None if Pillow has to decode it.

    `opened` is the image of the file's header, and maybe a draft, which is decoded at its fraction of the size.
    """
    if opened.mode == "L":
        grey = _decoded(data, opened, "GRAY")
        return None if grey is None else grey[..., 0]
    return _decoded(data, opened, "RGB")


def image(data: bytes, opened: Any) -> Any | None:
    """The same as an image of Pillow."""
    from PIL import Image

    # Pillow's colour images have four bytes per pixel, too.
    space, layout = ("GRAY", "L") if opened.mode == "L" else ("RGBX", "RGBX")
    array = _decoded(data, opened, space)
    return None if array is None else Image.frombytes(opened.mode, opened.size, array, "raw", layout)


def _decoded(data: bytes, opened: Any, space: str) -> Array | None:
    if opened.format not in ("JPEG", "MPO") or opened.mode not in _MODES:
        return None
    at_least = {"min_height": opened.height, "min_width": opened.width}
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, **at_least)
        if (width, height) != opened.size:  # the limits were checked for Pillow's size, before memory is allocated
            return None
        array: Array = simplejpeg.decode_jpeg(data, space, **at_least)
    except (ValueError, RuntimeError):  # also for damage that can be ignored: Pillow decides on that
        return None
    return array
