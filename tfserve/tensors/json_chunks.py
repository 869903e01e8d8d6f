"""Very long lists of numbers, parsed in chunks: the parser holds the GIL for half a millisecond at a time.

A regular list has the same depth at each comma between two numbers. So each chunk becomes valid JSON with as many
brackets around it, and the parser checks all the rest. Irregular lists, and those with NaN, take a slower way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import simdjson

from tfserve.tensors import json_skeleton, number_arrays
from tfserve.tensors.number_arrays import FLOATS
from tfserve.tensors.specs import MAX_RANK, Array, Shape

PIECE = 256 * 1024
"""Bytes per chunk."""

NEAR = 64
"""Bytes among which the last comma of a chunk is searched first."""

BEGINNING = 4096
"""Bytes that have the first bracket of each depth, unless there is much white space."""

_SPACE = b" \t\n\r"
_FLAT = bytes.maketrans(b"[]", b"  ")
_OPENING, _CLOSING, _COMMA = b"[],"
_STEP = np.zeros(256, np.int8)
_STEP[_OPENING], _STEP[_CLOSING] = 1, -1


class Chunks(NamedTuple):
    """The numbers of a list, chunk by chunk. `shape` is None for a ragged list."""

    arrays: Sequence[Array]
    shape: Shape | None


def parse(text: memoryview, *, lenient: bool) -> Chunks | None:
    """The list in `text`; None if it is not JSON, has an empty list, or contains anything but numbers."""
    return _parse_regular(text) or _parse_irregular(text, lenient=lenient)


def _parse_regular(text: memoryview) -> Chunks | None:
    """None for a list that is not regular.

    A chunk that is valid between the brackets open before and after it proves both depths. The skeleton and the count
    prove that no list is empty.
    """
    rank = json_skeleton.rank_of(json_skeleton.skeleton_of(bytes(text[:BEGINNING])))
    is_nested = rank > 1
    parser = simdjson.Parser()
    arrays: list[Array] = []
    skeletons: list[bytes] = []
    codes, opened = number_arrays.codes_of(text), 0
    for start, end in _pieces(text):
        is_last = end == len(text)
        closed = 0 if is_last else rank - _closings_before(text, end)
        if closed < 1 and not is_last:
            return None
        piece = b"".join((b"[" * opened, text[start:end], b"]" * closed))
        array = _parse(parser, piece, codes)
        if array is None or (not is_nested and piece.find(b"[", 1) >= 0):
            return None
        codes = FLOATS if array.dtype == np.float64 else codes
        arrays.append(array)
        if is_nested:
            skeleton = json_skeleton.skeleton_of(piece)
            skeletons.append(skeleton[opened : len(skeleton) - closed])
        opened = closed
    count = sum(map(len, arrays))
    shape = json_skeleton.shape_of_skeleton(b",".join(skeletons), count) if is_nested else (count,)
    return None if shape is None else Chunks(number_arrays.of_one_type(arrays), shape)


def _parse(parser: Any, text: bytes, codes: Sequence[str]) -> Array | None:
    """The numbers in a list; None if it is empty or contains anything else."""
    try:
        parsed: Any = parser.parse(text)
        array = number_arrays.read(parsed, codes)
        del parsed
    except (ValueError, RuntimeError):  # invalid JSON, or nested too deeply
        return None
    return array if array is not None and array.size else None


def _closings_before(text: memoryview, comma: int) -> int:
    """How many lists end right before a comma."""
    before = bytes(text[max(0, comma - 4 * MAX_RANK) : comma]).translate(None, _SPACE)
    return len(before) - len(before.rstrip(b"]"))


def _pieces(text: memoryview) -> Iterator[tuple[int, int]]:
    """Begin and end of the chunks, which are split at commas. The last one ends with the text."""
    start, size = 0, PIECE
    while start + size < len(text):
        end = _last_comma(text, start, start + size)
        if end < 0:
            size *= 2  # the chunk is white space or part of one number
            continue
        yield start, end
        start, size = end + 1, PIECE
    yield start, len(text)


def _last_comma(text: memoryview, start: int, end: int) -> int:
    """The position of the last comma in a part of the text; -1 if it has none."""
    near = max(start, end - NEAR)
    found = bytes(text[near:end]).rfind(b",")
    if found < 0 < near - start:
        near, found = start, bytes(text[start:end]).rfind(b",")
    return near + found if found >= 0 else -1


# --- irregular lists


def _parse_irregular(text: memoryview, *, lenient: bool) -> Chunks | None:
    arrays = _read_flat(text, lenient=lenient)
    if arrays is None:
        return None
    skeletons: list[bytes] = []
    for start, end in _pieces(text):
        piece = bytes(text[start:end])
        if not _is_spaced(piece):
            return None
        skeletons.append(json_skeleton.skeleton_of(piece))
    skeleton = b",".join(skeletons)
    shape = json_skeleton.shape_of_skeleton(skeleton, sum(map(len, arrays)))
    # With more than one dimension the shape proves that the brackets are balanced.
    is_proven = shape is not None and len(shape) > 1
    return Chunks(arrays, shape) if is_proven or _is_balanced(skeleton) else None


def _read_flat(text: memoryview, *, lenient: bool) -> Sequence[Array] | None:
    """All numbers, whatever the brackets between them; None if a chunk has anything else."""
    parser, arrays = simdjson.Parser(), []
    codes = number_arrays.codes_of(text)
    for start, end in _pieces(text):
        flat = b"[" + bytes(text[start:end]).translate(_FLAT) + b"]"
        array = _parse(parser, flat, codes)
        if array is None and lenient:
            array = _with_nan(flat)
        if array is None:
            return None
        arrays.append(array)
    return number_arrays.of_one_type(arrays)


def _with_nan(text: bytes) -> Array | None:
    """Numbers that may include NaN and infinities as bare words."""
    try:
        values = json.loads(text, parse_float=_finite)
        return np.array(values, np.float64) if values and {*map(type, values)} <= {int, float} else None
    except (ValueError, OverflowError):
        return None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range for a 64-bit float")
    return number


def _is_spaced(piece: bytes) -> bool:
    """Whether lists begin only after a comma or an opening bracket, and end only before a comma or a closing bracket.

    For a list whose elements are all numbers, JSON requires no more.
    """
    marks = np.frombuffer(piece.translate(None, _SPACE), np.uint8)
    openings, closings = np.flatnonzero(marks == _OPENING), np.flatnonzero(marks == _CLOSING)
    before = marks[openings[openings > 0] - 1]
    behind = marks[closings[closings < len(marks) - 1] + 1]
    return bool(((before == _OPENING) | (before == _COMMA)).all() and ((behind == _CLOSING) | (behind == _COMMA)).all())


def _is_balanced(skeleton: bytes) -> bool:
    """Whether the first bracket is closed by the last character, and not before.

    Works in chunks, because numpy blocks all other threads while it sums a large array.
    """
    marks, level = np.frombuffer(skeleton, np.uint8), 0
    for at in range(0, len(marks), PIECE):
        levels = np.cumsum(_STEP[marks[at : at + PIECE]], dtype=np.int64) + level
        level = int(levels[-1])
        is_last = at + PIECE >= len(marks)
        if not ((levels[:-1] if is_last else levels) > 0).all():
            return False
    return level == 0
