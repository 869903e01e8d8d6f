"""Reads one mask file: a value for each pixel, 0 is the background.

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
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.image_files import MAX_PIXELS
from tfserve.tensors.specs import Array
from tfserve.training.dataset.image_reading import Bad, read_bytes

_FORMATS = ("PNG", "GIF", "BMP", "TIFF", "JPEG", "WebP")
"""That are read, whatever the suffix. Saved with loss, the last two have too many values, which the message says."""
SUFFIXES = (".png", ".gif", ".bmp", ".tif", ".tiff")
MAX_COLOURS = 256
"""Maximum colours of a mask. More indicate a photograph, or a mask saved with lossy compression."""


class MaskProperties(msgspec.Struct, frozen=True):
    """The properties of a mask. `colours` has the colour of each value, 0xrrggbb, in a mask with a palette.

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


def inspect(file: Path) -> MaskProperties:
    """Raises `Bad`."""
    return _opened(file, _inspect)


def _opened(file: Path, read_it: Callable[[Any], T]) -> T:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    try:
        data = read_bytes(file)
        form = image_files.format_of(data[: image_files.HEAD_BYTES])
        if form not in _FORMATS:
            raise Bad(f"expected {', '.join(_FORMATS)}, got {form or 'a file that is not an image'}")
        with Image.open(io.BytesIO(data), formats=[form.upper()]) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise Bad(f"animated: {count} images in one file")
            if image.width * image.height > MAX_PIXELS:
                raise Bad(f"huge: {image.width}x{image.height} pixels")
            return read_it(image)
    except Bad:
        raise
    except Exception as error:  # a broken file can raise anything
        raise Bad(f"can't be read: {cause(error, 120)}") from error


def _inspect(image: Any) -> MaskProperties:
    width, height = image.size
    if _is_shape_in_alpha(image):
        raise Bad("only its transparency shows a shape: save it without transparency, in grey or colours")
    if image.mode in ("RGB", "RGBA") and not _is_grey(image):
        used = np.unique(_packed(np.asarray(image.convert("RGB"))))
        if len(used) > MAX_COLOURS:
            raise Bad(
                f"it has {len(used)} different colours; expected one per class. Was it smoothed, or saved as JPEG?"
            )
        return MaskProperties(width, height, [], {int(each): int(each) for each in used})
    values = np.flatnonzero(np.bincount(_values(image).ravel(), minlength=256)).tolist()
    if image.mode != "P":
        return MaskProperties(width, height, values, {})
    palette = _packed(_palette(image))
    whole = {n: int(colour) for n, colour in enumerate(palette)}
    is_ramp = all(colour % 0x10101 == 0 for colour in whole.values())
    return MaskProperties(width, height, values, {value: whole.get(value, -1) for value in values}, is_ramp)


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
    raise Bad(f"expected one value from 0 to 255 per pixel, got the colour mode {image.mode}")


def _palette(image: Any) -> Array:
    return np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _packed(rgb: Array) -> Array:
    wide = rgb.astype(np.uint32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _is_grey(image: Any) -> bool:
    rgb = np.asarray(image.convert("RGB"))
    return bool((rgb == rgb[:, :, :1]).all())


def _is_shape_in_alpha(image: Any) -> bool:
    """Whether pixels differ in their transparency and in nothing else."""
    if image.mode not in ("RGBA", "LA"):
        return False
    *colours, (least, most) = image.getextrema()
    return least < most and all(low == high for low, high in colours)


def _grey_of_colours(image: Any) -> Array:
    if not _is_grey(image):
        raise Bad("expected one value from 0 to 255 per pixel, got colours")
    return np.asarray(image.convert("RGB"))[:, :, 0]


def _narrow(values: Array) -> Array:
    if values.min() < 0 or values.max() > 255 or (values != np.rint(values)).any():
        raise Bad(f"expected integers from 0 to 255, got values from {values.min()} to {values.max()}")
    return values.astype(np.uint8)
