"""The size in which a network sees images, chosen from the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfserve.training.findings import ImageFile

SMALLEST = 16


def network_size(
    images: Sequence[ImageFile], wanted: int | Literal["auto"], *, largest: int, multiple: int
) -> tuple[int, int]:
    """Height and width, multiples of `multiple`, with the shape of the images in the middle.

    `wanted` is the larger side; `auto` keeps the images' size, up to `largest`.
    """
    height = float(np.median([image.height for image in images]))
    width = float(np.median([image.width for image in images]))
    side = min(max(height, width), largest) if wanted == "auto" else wanted
    scale = side / max(height, width)
    return _rounded(height * scale, multiple), _rounded(width * scale, multiple)


def thumbnail_size(image: ImageFile, side: int = 128) -> tuple[int, int]:
    """Height and width of a small picture of the image."""
    scale = min(1.0, side / max(image.height, image.width))
    return max(1, round(image.height * scale)), max(1, round(image.width * scale))


def _rounded(side: float, multiple: int) -> int:
    return max(-(-SMALLEST // multiple), round(side / multiple)) * multiple
