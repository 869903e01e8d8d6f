"""Compares the outputs of two runtimes, or of two calls: whether they agree, and by how much they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np

from tfserve.tensors.specs import Array

RTOL, ATOL = 1e-3, 1e-5
"""For floats of 32 bits or fewer, and for half of the bits at most when that is coarser."""
RTOL_64, ATOL_64 = 1e-9, 1e-12
"""Tolerance for 64-bit models, which need more precision than 32 bits offer."""
TIE = 1e-6
"""An output this close to the highest one counts as the highest, too."""

MASK_RANK = 2
"""Outputs with more dimensions have a class for each position of an example."""

MAX_CLOSE_SHARE = 1e-3
"""The largest share of an example's positions (pixels) that may have another class, where two classes are close."""

REDUCED_CLASSES, REDUCED_SPAN = 0.95, 0.1
"""At reduced precision: minimum share of equal classes, and maximum difference relative to an output's range."""

SMALL, ENOUGH_ROWS = 100.0, 8
"""With this number of rows, what cancelled out in a column is at most this multiple of its size, or this size."""
HUGE = 1e30
"""Values from which on they count as infinite."""
MASKED, MASKED_IN_ROUNDED = 1e7, 1e4
"""Equal values above this multiple of all that differ are masks: between two runtimes, and within one."""
PIXEL_RANK, PIXEL_SPAN = 4, 25
"""At reduced precision, images of whole numbers may differ by this."""


class Difference(msgspec.Struct):
    """The result so far; `problem` is the first reason why the outputs do not agree.

    `exact` counts the values without rounding errors (class numbers, text) that a runtime at reduced precision gave.
    `other_classes` is the largest share of an example's positions with another class that was accepted.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    rows: int = 0
    same_rows: int = 0
    exact: int = 0
    same_exact: int = 0
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
    reduced: bool = False,
) -> None:
    """Adds what the outputs of one computation show to `found`. `expected` are TensorFlow's.

    For a runtime at `reduced` precision larger differences are accepted while nearly all classes are the same.
    """
    outputs = list(zip(names, given, expected, strict=True))
    problems = [(name, _compare(found, one, original, close.get(name))) for name, one, original in outputs]
    problem = next((f"output {name!r} {problem}" for name, problem in problems if problem), "")
    if reduced:
        _count_exact(found, given, expected)
        problem = problem and _reduced_problem(found, outputs)
    found.problem = found.problem or problem


def _count_exact(found: Difference, given: Sequence[Array], expected: Sequence[Array]) -> None:
    for one, original in zip(given, expected, strict=True):
        if is_exact(original) and one.shape == original.shape and not _is_picture(original):
            found.exact, found.same_exact = found.exact + original.size, found.same_exact + int((one == original).sum())


def _is_picture(array: Array) -> bool:
    return array.dtype == np.uint8 and array.ndim >= PIXEL_RANK


def _reduced_problem(found: Difference, outputs: Sequence[tuple[str, Array, Array]]) -> str:
    for name, one, original in outputs:
        if not _is_near(one, original):
            return f"output {name!r} differs by more than a tenth of its range"
    if found.same_exact < REDUCED_CLASSES * found.exact:
        return f"only {found.same_exact / found.exact:.1%} of the class numbers and texts are the same"
    same = found.same_classes
    return "" if same is None or same >= REDUCED_CLASSES else f"only {same:.1%} of the rows have the same class"


def _compare(found: Difference, given: Array, original: Array, close: Array | None) -> str:
    """The reason why the two do not agree, or an empty string."""
    if given.shape != original.shape:
        return f"has the shape {list(given.shape)}, not {list(original.shape)}"
    if given.dtype != original.dtype:
        return f"has the type {given.dtype}, not {original.dtype}"
    if is_exact(original):
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
        return f"has another class at {share:.2%} of the positions of an example"
    found.other_classes = max(found.other_classes, share)
    return ""


def _compare_floats(found: Difference, given: Array, original: Array) -> str:
    tolerance = _tolerance(original)
    one, other = given.astype(np.float64), original.astype(np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return "has NaN or infinite values at other positions"
    difference, size = np.abs(one[finite] - other[finite]), np.abs(other[finite])
    if difference.size:
        found.max_abs = max(found.max_abs, float(difference.max()))
        found.max_rel = max(found.max_rel, float((difference / np.maximum(size, tolerance.absolute)).max()))
    scale = np.maximum(1.0, _scale_of_columns(one, other))[finite]
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
    if _is_picture(original):
        return not original.size or int(np.abs(given.astype(np.int16) - original).max()) <= PIXEL_SPAN
    if is_exact(original):
        return True  # the share of equal values decides
    one, other = given.astype(np.float64), original.astype(np.float64)
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return False
    kept = ~_is_mask(one, other)
    one, other = one[kept], other[kept]
    return not other.size or bool(np.abs(one - other).max() <= REDUCED_SPAN * max(np.ptp(other), np.abs(other).max()))


def is_rounded(given: Array | None, original: Array | None) -> bool:
    """Whether two outputs of one runtime differ only by the rounding errors of adding floats in another order."""
    if given is None or original is None or given.shape != original.shape:
        return False
    if is_exact(given):
        return bool(np.array_equal(given, original))
    one, other = given.astype(np.float64), original.astype(np.float64)
    noise = 8 * float(np.finfo(given.dtype).eps if given.dtype.kind == "f" else 2**-7)
    return bool(
        np.allclose(one, other, rtol=16 * noise, atol=noise * _scale(one, other, MASKED_IN_ROUNDED), equal_nan=True)
    )


def _is_mask(given: Array, original: Array, masked: float = MASKED) -> Array:
    """Where values say nothing about the size of the others: infinite ones, and very large equal ones."""
    size = np.abs(original)
    with np.errstate(invalid="ignore"):
        is_one = ~(size < HUGE)
    if (limit := masked * max(1.0, float(size[(given != original) & ~is_one].max(initial=0.0)))) < HUGE:
        is_one |= (given == original) & (size > limit)
    return np.asarray(is_one)


def _scale(given: Array, original: Array, masked: float = MASKED) -> float:
    """The size of what may have cancelled out to give the values of `original`: a remainder is only as precise."""
    return float(np.abs(original[~_is_mask(given, original, masked)]).max(initial=0.0))


def _scale_of_columns(given: Array, original: Array) -> Array:
    """The same for each value. A much smaller column of the last axis is another quantity: a chance next to a price."""
    largest = _scale(given, original)
    if original.ndim < 2 or largest <= SMALL or original.size < ENOUGH_ROWS * original.shape[-1]:
        return np.full(original.shape, largest)
    size = np.where(_is_mask(given, original), 0.0, np.abs(original))
    column = size.max(axis=tuple(range(original.ndim - 1)), initial=1.0)
    return np.broadcast_to(np.minimum(largest, SMALL * column), original.shape)


def is_exact(array: Array) -> bool:
    """Whether its values have no rounding errors: text, integers, booleans."""
    return array.dtype.kind in "biuO"
