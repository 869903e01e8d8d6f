"""The boxes of a detection project as read from its files, before `box_checks` compares them with the images.

The readers are `layouts.coco_boxes`, `layouts.yolo_boxes`, `layouts.voc_boxes`, `layouts.labelme_boxes` and
`layouts.box_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from tfserve.tensors.specs import Array

Sides = tuple[float, float, float, float]
"""Usually x, y, width and height."""


class RawBox(msgspec.Struct, frozen=True):
    """A box as read from a file: x, y, width and height. `category` is the name of its class, `where` names the entry.

    `has_shares`: sides are fractions of the image's width and height. `area` is COCO's field, if given. `crowd` marks
    regions that are used neither for training nor for measuring.
    """

    category: str
    sides: Sides
    where: str
    crowd: bool = False
    area: float | None = None
    has_shares: bool = False


class Marked(msgspec.Struct):
    """An image with its boxes. `size` is the width and height that the annotation states, if any."""

    file: Path
    boxes: list[RawBox] = msgspec.field(default_factory=list)
    size: tuple[int, int] | None = None
    part: str = ""


class Annotations(msgspec.Struct):
    """All that was read. `is_relative`: sides of all boxes are fractions of the image's width and height.

    `classes` has the number of each class by its name, None if it has none. `wrong` names the entries that could not be
    read, by what is wrong with them. `missing` are images that are annotated and not there.
    """

    layout: str
    is_relative: bool
    marked: list[Marked] = msgspec.field(default_factory=list)
    classes: dict[str, int | None] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    remarks: list[str] = msgspec.field(default_factory=list)
    wrong: dict[str, list[str]] = msgspec.field(default_factory=dict)
    missing: list[str] = msgspec.field(default_factory=list)
    #: what images in no part of the split lack, if they are to be left out
    without_part: str = ""

    def add_wrong(self, what: str, where: str) -> None:
        self.wrong.setdefault(what, []).append(where)

    @property
    def entries(self) -> int:
        return sum(len(each.boxes) for each in self.marked) + sum(len(each) for each in self.wrong.values())


def around(points: Sequence[float]) -> Sides:
    """x, y, width and height of the box around x1, y1, x2, y2, …"""
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def around_bits(bits: Array) -> Sides | None:
    """x, y, width and height of the box around the true pixels of (height, width); None without any."""
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1


def size_of(width: float | None, height: float | None) -> tuple[int, int] | None:
    """Width and height in whole pixels, if both are given and sensible."""
    if width is None or height is None or not 1 <= min(width, height) <= max(width, height) < 1e6:
        return None
    return int(width), int(height)
