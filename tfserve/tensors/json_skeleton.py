"""The shape of a nested list in JSON, from its skeleton: its brackets and commas without the numbers.

The skeleton of a regular list repeats that of its first element, at every depth.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from tfserve.tensors.specs import MAX_RANK, Shape

PIECE = 256 * 1024
"""Characters that are compared at a time."""

_NOT_NESTING = bytes(set(range(256)) - set(b"[],"))
_COMMA = ord(",")


def skeleton_of(text: bytes) -> bytes:
    return text.translate(None, _NOT_NESTING)


def shape_of(text: bytes, count: int) -> Shape | None:
    """The shape of a list of `count` numbers, from its brackets and commas; None if it is ragged or empty."""
    if count and text.find(b"[", 1) < 0:
        return (count,)
    return shape_of_skeleton(skeleton_of(text), count)


def shape_of_skeleton(skeleton: bytes, count: int) -> Shape | None:
    """The same for a text of which only the skeleton is known."""
    rank = rank_of(skeleton)
    if not count or rank > MAX_RANK:
        return None
    marks = np.frombuffer(skeleton, np.uint8)
    sizes: list[int] = []
    length = 0  # characters of an element of the lists at this depth
    for depth in range(1, rank + 1):  # from the innermost lists outwards, by the first list of each depth
        start = rank - depth + 1
        end = skeleton.find(b"]" * depth, start) + depth - 1
        size, remainder = divmod(end - start + 1, length + 1)
        if remainder or size < 1 or not _repeats(marks[start:end], length):
            return None
        sizes.append(size)
        length = end - start + 2
    shape = tuple(reversed(sizes))
    # `[]` and `[7]` have the same skeleton: the count distinguishes them.
    return shape if length == len(skeleton) and prod(shape) == count else None


def rank_of(skeleton: bytes) -> int:
    """Number of leading brackets, at most `MAX_RANK` + 1, without copying the rest."""
    begun = skeleton[: MAX_RANK + 1]
    return len(begun) - len(begun.lstrip(b"["))


def _repeats(marks: NDArray[np.uint8], length: int) -> bool:
    """Whether the text repeats its first `length` characters to the end, separated by commas.

    Compares in chunks, because building and comparing a copy of the text would block all other threads.
    """
    if len(marks) > length and marks[length] != _COMMA:
        return False
    period = length + 1
    return all(
        np.array_equal(marks[at : min(at + PIECE, len(marks) - period)], marks[at + period : at + period + PIECE])
        for at in range(0, len(marks) - period, PIECE)
    )
