"""One mask file: a value for each pixel, 0 is the background.

Values are grey levels, or the numbers of the colours in a file with a palette. Masks of colours have no values: which
class a colour means is decided once for a whole project (`mask_values`), and masks that need it are converted then.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from tfserve.runtimes import image_files
from tfserve.runtimes.decoding import MAX_PIXELS
from tfserve.tensors import Array
from tfserve.training.first_words import first_words
from tfserve.training.images import Bad, read_bytes

_FORMATS = ("PNG", "GIF", "BMP", "TIFF", "JPEG", "WebP")
"""That are read, whatever the suffix. Saved with loss, the last two have too many values, which the message says."""
SUFFIXES = (".png", ".gif", ".bmp", ".tif", ".tiff")
MAX_COLOURS = 256
"""Different colours of a mask. More are the mark of a photograph, or of a mask saved with loss."""


class Look(msgspec.Struct, frozen=True):
    """What one look at a mask shows. `colours` has the colour of each value, 0xrrggbb, in a mask with a palette.

    In a mask of colours, without values, `colours` has each colour that is used, by itself. `is_ramp` says that all of
    a palette is grey, so that its colours are levels.
    """

    width: int
    height: int
    values: list[int]
    colours: dict[int, int]
    is_ramp: bool = False

    @property
    def has_palette(self) -> bool:
        return bool(self.colours) and bool(self.values)


T = TypeVar("T")


def read(file: Path) -> Array:
    """The values, (height, width) uint8: levels of grey, numbers in a palette. Raises `Bad` with the reason."""
    return _opened(file, _values)


def colours(file: Path) -> Array:
    """The colour of each pixel as 0xrrggbb, (height, width) uint32. Raises `Bad`."""
    return _opened(file, lambda image: _packed(np.asarray(image.convert("RGB"))))


def look(file: Path) -> Look:
    """Raises `Bad`."""
    return _opened(file, _look)


def _opened(file: Path, read_it: Callable[[Any], T]) -> T:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    try:
        data = read_bytes(file)
        form = image_files.format_of(data[: image_files.HEAD_BYTES])
        if form not in _FORMATS:
            raise Bad(f"its content is {form or 'no image'}; {', '.join(_FORMATS)} was expected")
        with Image.open(io.BytesIO(data), formats=[form.upper()]) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise Bad(f"animated: {count} pictures in one file")
            if image.width * image.height > MAX_PIXELS:
                raise Bad(f"huge: {image.width}x{image.height} pixels")
            return read_it(image)
    except Bad:
        raise
    except Exception as error:  # a broken file can raise anything
        raise Bad(f"can't be read: {first_words(error, 120)}") from error


def _look(image: Any) -> Look:
    width, height = image.size
    if image.mode in ("RGB", "RGBA") and not _is_grey(image):
        used = np.unique(_packed(np.asarray(image.convert("RGB"))))
        if len(used) > MAX_COLOURS:
            raise Bad(
                f"it has {len(used)} different colours; a class for each was expected: saved with loss, or smoothed?"
            )
        return Look(width, height, [], {int(each): int(each) for each in used})
    values = np.flatnonzero(np.bincount(_values(image).ravel(), minlength=256)).tolist()
    if image.mode != "P":
        return Look(width, height, values, {})
    palette = _packed(_palette(image))
    whole = {n: int(colour) for n, colour in enumerate(palette)}
    is_ramp = all(colour % 0x10101 == 0 for colour in whole.values())
    return Look(width, height, values, {value: whole.get(value, -1) for value in values}, is_ramp)


def _values(image: Any) -> Array:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L"))
    if image.mode == "P":
        return np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        return _grey_of_colours(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(np.asarray(image))
    raise Bad(f"its colours are {image.mode}; one value from 0 to 255 for each pixel was expected")


def _palette(image: Any) -> Array:
    return np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _packed(rgb: Array) -> Array:
    wide = rgb.astype(np.uint32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _is_grey(image: Any) -> bool:
    rgb = np.asarray(image.convert("RGB"))
    return bool((rgb == rgb[:, :, :1]).all())


def _grey_of_colours(image: Any) -> Array:
    if not _is_grey(image):
        raise Bad("it has colours; one value from 0 to 255 for each pixel was expected")
    return np.asarray(image.convert("RGB"))[:, :, 0]


def _narrow(values: Array) -> Array:
    if values.min() < 0 or values.max() > 255 or (values != np.rint(values)).any():
        raise Bad(f"it has values from {values.min()} to {values.max()}; whole numbers from 0 to 255 were expected")
    return values.astype(np.uint8)
