"""Whether two runtimes gave the same numbers, and by how much they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np

from tfserve.tensors import Array

RTOL, ATOL = 1e-3, 1e-5
"""For floats of 32 bits or fewer, and for half of the bits at most when that is coarser."""
RTOL_64, ATOL_64 = 1e-9, 1e-12
"""Who asks for 64 bits wants more than 32 bits can tell."""
TIE = 1e-6
"""So close to the highest output another one counts as the highest too."""

MASK_RANK = 2
"""Outputs with more dimensions have a class for each position of an example."""

MAX_CLOSE_SHARE = 1e-3
"""The largest share of an example's positions (pixels) that may have another class, where two classes are close."""

REDUCED_CLASSES, REDUCED_SPAN = 0.95, 0.1
"""With fewer bits asked for: the least share of same classes, and the largest difference by the span of an output."""


class Difference(msgspec.Struct):
    """What was found so far; `problem` is the first reason why the outputs do not agree.

    `other_classes` is the largest share of an example's positions with another class that was accepted.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    rows: int = 0
    same_rows: int = 0
    other_classes: float = 0.0
    problem: str = ""

    @property
    def same_classes(self) -> float | None:
        """The share of rows with the same highest output; None without outputs that could be classes."""
        return self.same_rows / self.rows if self.rows else None


class Tolerance(NamedTuple):
    relative: float
    absolute: float


Close = Mapping[str, Array]
"""By the name of an output of whole numbers: true at each position whose class was a close decision."""

NONE: Close = MappingProxyType({})


def compare(
    found: Difference,
    names: Sequence[str],
    given: Sequence[Array],
    expected: Sequence[Array],
    *,
    close: Close = NONE,
) -> None:
    """Adds what the outputs of one computation show to `found`. `expected` are TensorFlow's."""
    for name, one, original in zip(names, given, expected, strict=True):
        problem = _compare(found, one, original, close.get(name))
        if problem and not found.problem:
            found.problem = f"output {name!r} {problem}"


def compare_reduced(
    found: Difference,
    names: Sequence[str],
    given: Sequence[Array],
    expected: Sequence[Array],
    *,
    close: Close = NONE,
) -> None:
    """The same for a runtime that was asked to compute with fewer bits."""
    before, found.problem = found.problem, ""
    compare(found, names, given, expected, close=close)
    strict, found.problem = found.problem, before
    if not strict or before:
        return
    for name, one, original in zip(names, given, expected, strict=True):
        if not _is_near(one, original):
            found.problem = f"output {name!r} differs by more than a tenth of its range"
            return
    same = found.same_classes
    if same is not None and same < REDUCED_CLASSES:
        found.problem = f"only {same:.1%} of the rows have the same class"


def _compare(found: Difference, given: Array, original: Array, close: Array | None) -> str:
    """The reason why the two do not agree, or nothing."""
    if given.shape != original.shape:
        return f"has the shape {list(given.shape)}, not {list(original.shape)}"
    if given.dtype != original.dtype:
        return f"has the type {given.dtype}, not {original.dtype}"
    if _is_exact(original):
        return _compare_exactly(found, given, original, close)
    return _compare_floats(found, given, original)


def _compare_exactly(found: Difference, given: Array, original: Array, close: Array | None) -> str:
    if np.array_equal(given, original):
        return ""
    other = given != original
    if close is None or bool((other & ~close).any()):
        return "is not equal"
    return _accept(found, other)


def _accept(found: Difference, other: Array) -> str:
    """Positions with another class must be few in each example: with fewer than 1,000 positions none may have one."""
    examples = np.atleast_1d(other)
    share = float(examples.reshape(len(examples), -1).mean(axis=1).max())
    if share > MAX_CLOSE_SHARE:
        return f"has another class at {share:.2%} of an example's positions"
    found.other_classes = max(found.other_classes, share)
    return ""


def _compare_floats(found: Difference, given: Array, original: Array) -> str:
    tolerance = _tolerance(original)
    one, other = given.astype(np.float64), original.astype(np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return "differs in which of its numbers are finite"
    difference, size = np.abs(one[finite] - other[finite]), np.abs(other[finite])
    if difference.size:
        found.max_abs = max(found.max_abs, float(difference.max()))
        found.max_rel = max(found.max_rel, float((difference / np.maximum(size, tolerance.absolute)).max()))
    # Where large numbers cancel out, what is left over is as coarse as they are.
    scale = max(1.0, float(size.max(initial=0.0)))
    agrees = bool((difference <= tolerance.relative * size + tolerance.absolute * scale).all())
    same = _same_classes(one, other)
    rows, same_rows = int(same.size), int(same.sum())
    found.rows, found.same_rows = found.rows + rows, found.same_rows + same_rows
    if not agrees:
        return f"differs by up to {float(difference.max()):.3g}"
    if rows == same_rows:
        return ""
    if original.ndim > MASK_RANK:  # the values agree, so these are close decisions
        return _accept(found, ~same)
    return f"has another highest element in {rows - same_rows} of {rows} rows"


def _tolerance(array: Array) -> Tolerance:
    if array.dtype == np.float64:
        return Tolerance(RTOL_64, ATOL_64)
    noise = {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(array.dtype.name, 0.0)
    return Tolerance(max(RTOL, noise), ATOL)


def _same_classes(given: Array, original: Array) -> Array:
    """For each row that could be a vector of scores, whether the highest element is the same."""
    if not original.ndim or original.shape[-1] < 2 or not original.size or not np.isfinite(original).all():
        return np.zeros(0, np.bool_)
    highest = original.max(axis=-1)
    taken = np.take_along_axis(original, given.argmax(axis=-1)[..., np.newaxis], axis=-1)[..., 0]
    return np.asarray(taken >= highest - TIE * np.abs(highest))


def _is_near(given: Array, original: Array) -> bool:
    if given.shape != original.shape or given.dtype != original.dtype:
        return False
    if _is_exact(original):
        return True  # a class number, perhaps: its share is counted where the chances are an output
    one, other = given.astype(np.float64), original.astype(np.float64)
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return False
    other, one = other[np.isfinite(other)], one[np.isfinite(other)]
    return not other.size or bool(np.abs(one - other).max() <= REDUCED_SPAN * max(np.ptp(other), np.abs(other).max()))


def _is_exact(array: Array) -> bool:
    return array.dtype == object or array.dtype.kind in "biu"
