"""Masks and the orientation of their images (EXIF): most are drawn over the upright image, some over the stored one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import BadImage
from tfserve.tensors.specs import Array
from tfserve.training.dataset.image_reading import read_bytes

ROTATED = (5, 6, 7, 8)
"""Orientations that exchange width and height."""

T = TypeVar("T")
Size = tuple[int, int]
"""Width and height."""


def upright_size(image: Path) -> Size | None:
    """The size of an image as it is displayed; None for one that can't be read, which is reported elsewhere."""
    stored, orientation = _stored(image, None)
    return _upright(stored, orientation) if stored else None


def orientations(
    sizes: Mapping[Path, Size], images: Mapping[Path, tuple[Path, Size]]
) -> tuple[dict[Path, int], set[Path]]:
    """The orientation to apply to each mask of these sizes, and the masks that match in no orientation.

    `images` has the image of each mask, and the size in which it is learnt from.

    A mask with the size of the stored image, but not of the upright one, is rotated like the image. Where the size does
    not show it (a square image, or one upside down), all masks are taken as those of the other images are.
    """
    found: dict[Path, int] = {}
    unclear: dict[Path, int] = {}
    wrong: set[Path] = set()
    upright_count = 0
    for mask, size in sizes.items():
        stored, orientation = _stored(*images[mask])
        turned = _upright(stored, orientation)
        if size not in (stored, turned):
            wrong.add(mask)
        elif orientation != 1 and stored == turned:
            unclear[mask] = orientation
        elif size != turned:
            found[mask] = orientation
        else:
            upright_count += orientation != 1
    if found and not upright_count:
        found |= unclear
    return found, wrong


def rotated(values: Array, orientation: int) -> Array:
    """What is stored with this EXIF orientation, upright."""
    if orientation in ROTATED:
        values = values.T
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.ascontiguousarray(np.flip(values, flips.get(orientation, ())))


def _upright(stored: Size, orientation: int) -> Size:
    return stored[::-1] if orientation in ROTATED else stored


def _stored(image: Path, known: T) -> tuple[Size | T, int]:
    """The size of an image as it is stored, `known` if it can't be read, and its orientation from 1 to 8."""
    try:
        return image_files.stored(read_bytes(image))
    except BadImage:  # it is gone or was changed since it was looked at
        return known, 1
