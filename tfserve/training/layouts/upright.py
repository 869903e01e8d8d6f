"""Masks and the orientation of their images (EXIF): most are drawn over the upright image, some over the stored one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import BadImage
from tfserve.tensors import Array
from tfserve.training.images import read_bytes

ROTATED = (5, 6, 7, 8)
"""Orientations that exchange width and height."""

Size = tuple[int, int]
"""Width and height."""


def turns(sizes: Mapping[Path, Size], images: Mapping[Path, tuple[Path, Size]]) -> tuple[dict[Path, int], set[Path]]:
    """The orientation by which each mask of these sizes is to be turned, and the masks that fit in no way.

    `images` has the image of each mask, and the size in which it is learnt from.

    A mask as large as the stored image, but not as the upright one, is turned as the image is. Where the size does not
    show it (a square image, or one upside down), all masks are taken as those of the other images are.
    """
    found: dict[Path, int] = {}
    unclear: dict[Path, int] = {}
    wrong: set[Path] = set()
    upright_count = 0
    for mask, size in sizes.items():
        stored, orientation = _stored(*images[mask])
        turned = stored[::-1] if orientation in ROTATED else stored
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


def turn(values: Array, orientation: int) -> Array:
    """What is stored with this EXIF orientation, upright."""
    if orientation in ROTATED:
        values = values.T
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.ascontiguousarray(np.flip(values, flips.get(orientation, ())))


def _stored(image: Path, known: Size) -> tuple[Size, int]:
    """The size of an image as it is stored, and its orientation from 1 to 8."""
    try:
        return image_files.stored(read_bytes(image))
    except BadImage:  # it is gone or was changed since it was looked at
        return known, 1
