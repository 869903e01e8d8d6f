"""Masks drawn from outlines and run lengths, as annotation programs keep them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tfserve.runtimes.image_files import MAX_PIXELS
from tfserve.tensors.specs import Array
from tfserve.training.dataset import coco

MAX_POINTS = 1_000_000


class BadShape(Exception):
    """A shape that can't be drawn; the message is the reason."""


class Shape(NamedTuple):
    """One object: outlines as [(x, y), …] in pixels, or a mask (height, width) of bools whose corner is at `corner`.

    `number` counts the shapes of the file from 1, if messages need it.
    """

    name: str
    outlines: list[list[tuple[float, float]]] = []
    bits: Array | None = None
    corner: tuple[int, int] = (0, 0)
    number: int = 0


@dataclass
class Annotated:
    """What is drawn on one image of this size, from the first shape to the last."""

    width: int
    height: int
    shapes: list[Shape] = field(default_factory=list)
    part: str = ""


def draw(annotated: Annotated, values: dict[str, int]) -> Array:
    """The mask, (height, width) uint8, with the value of each shape's name. Later shapes cover earlier ones."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (annotated.width, annotated.height))
    for shape in annotated.shapes:
        value = values[shape.name]
        if shape.bits is not None:
            canvas.paste(value, shape.corner, Image.fromarray(shape.bits.astype(np.uint8) * 255))
        for outline in shape.outlines:
            ImageDraw.Draw(canvas).polygon(outline, fill=value, outline=value)
    return np.asarray(canvas)


def check_size(width: Any, height: Any) -> tuple[int, int]:
    """Raises `BadShape` unless both are whole numbers of pixels that an image can have."""
    if not all(coco.is_number(side) and side == int(side) and side > 0 for side in (width, height)):
        raise BadShape(f"the size of the image is {width!r} x {height!r}")
    if width * height > MAX_PIXELS:
        raise BadShape(f"the image is huge: {width}x{height}")
    return int(width), int(height)


def outline(numbers: Any) -> list[tuple[float, float]]:
    """Points from [x, y, x, y, …] or [[x, y], …]. Raises `BadShape`."""
    try:
        flat = np.asarray(numbers, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise BadShape("an outline is not a list of numbers") from None
    if len(flat) % 2 or not 4 <= len(flat) <= MAX_POINTS or not np.isfinite(flat).all():
        raise BadShape(f"an outline of {len(flat)} numbers: expected two per point")
    if np.abs(flat).max() > 1e6:
        raise BadShape("an outline lies far outside the image")
    return [(float(x), float(y)) for x, y in flat.reshape(-1, 2)]


def rectangle(one: Sequence[float], other: Sequence[float]) -> list[tuple[float, float]]:
    (left, top), (right, bottom) = one, other
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def circle(centre: Sequence[float], edge: Sequence[float]) -> list[tuple[float, float]]:
    radius = math.dist(centre, edge)
    return ellipse(centre, radius, radius)


def ellipse(
    centre: Sequence[float], across: float, down: float, turned: float = 0.0, points: int = 72
) -> list[tuple[float, float]]:
    """`across` and `down` are radii, `turned` is an angle in radians, clockwise."""
    x, y = centre
    cos, sin = math.cos(turned), math.sin(turned)
    angles = [2 * math.pi * n / points for n in range(points)]
    ring = [(across * math.cos(angle), down * math.sin(angle)) for angle in angles]
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in ring]


def run_lengths(rle: Any, size: tuple[int, int]) -> Array:
    """COCO's run lengths, as numbers or packed in text: bools (height, width). Raises `BadShape`."""
    width, height = size
    if not isinstance(rle, dict) or "counts" not in rle or rle.get("size") != [height, width]:
        raise BadShape(f"run lengths need counts and the size [{height}, {width}]")
    packed = rle["counts"]
    try:
        counts = _unpacked(packed) if isinstance(packed, str) else [int(each) for each in packed]
    except (TypeError, ValueError, IndexError, OverflowError):
        raise BadShape("run lengths that can't be read") from None
    if min(counts, default=-1) < 0 or sum(counts) != width * height:
        raise BadShape(f"run lengths of {sum(counts)} pixels for an image of {width}x{height}")
    bits = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return bits.reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """Numbers of 5 bits for each character, lowest first; from the third on, differences to the one before the last."""
    counts: list[int] = []
    codes = iter(text.encode("ascii"))
    for code in codes:
        value, shift, chunk = 0, 0, code - 48
        while True:
            value |= (chunk & 0x1F) << shift
            shift += 5
            if not chunk & 0x20:
                break
            if shift > 60:
                raise ValueError("a truncated run length")
            chunk = next(codes, 48) - 48
        if chunk & 0x10:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
