"""Recognises masks in which each object has a number of its own. Read as classes, they can't be learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset import masks
from tfserve.training.dataset.mask_values import IGNORE

MIN_MASKS, MIN_COUNTS = 4, 3
"""The least number of masks with objects, and of different counts of objects in them."""
MOST = 0.9
MAX_READ = 20
SIDE = 128
REMARK = (
    "The numbers in the masks look like those of single objects, not of classes: in nearly all masks they are 1, 2, 3,"
    " …, up to a different number, and each is one region. If so, give all objects of a class the same number."
)


def suspected(values: Mapping[Path, Sequence[int]]) -> bool:
    """Whether the numbers in each mask count from 1 to a varying number, and each is one connected region.

    `values` has those of each mask.
    """
    objects = {path: [value for value in found if value not in (0, IGNORE)] for path, found in values.items()}
    objects = {path: found for path, found in objects.items() if found}
    counted = [path for path, found in objects.items() if found[-1] == len(found)]
    numbers = {len(objects[path]) for path in counted}
    if len(objects) < MIN_MASKS or len(counted) < MOST * len(objects) or len(numbers) < MIN_COUNTS:
        return False
    counted.sort(key=lambda path: -len(objects[path]))
    regions = [is_one for path in counted[:MAX_READ] for is_one in _regions(masks.read(path), objects[path])]
    return sum(regions) >= MOST * len(regions)


def _regions(mask: Array, values: Sequence[int]) -> list[bool]:
    """For each value, whether it is one region. Those that are lost in a smaller size are left out."""
    step = max(1, -(-max(mask.shape) // SIDE))
    small = mask[::step, ::step]
    return [_is_one_region(small == value) for value in values if (small == value).any()]


def _is_one_region(bits: Array) -> bool:
    """Whether nearly all true pixels are connected with the one in the middle of them."""
    rows, columns = np.nonzero(bits)
    nearest = np.argmin(np.abs(rows - np.median(rows)) + np.abs(columns - np.median(columns)))
    reached = np.zeros_like(bits)
    reached[rows[nearest], columns[nearest]] = True
    count, before = 1, 0
    while count > before:
        grown = np.pad(reached, 1)
        reached = bits & (grown[1:-1, 1:-1] | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:])
        before, count = count, int(reached.sum())
    return count >= MOST * len(rows)
