"""Long lists of numbers in JSON, read without making a Python object of each number.

orjson needs 15 ms for the 150,000 numbers of a picture, simdjson 2 ms, since it writes them straight into a buffer.
But it drops the nesting. So the nesting is proven from the text: what is left of it without the numbers (brackets and
commas) must be the skeleton of a regular array of just that many elements.

Lists of many megabytes are read piece by piece: that takes a quarter of the time, and other threads get their turn.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from tfserve.json_limits import check_expansion
from tfserve.tensors import DTYPES, MAX_RANK, Array, Shape

LONG = 8 * 1024
"""Bytes of text from which a list is worth the trouble."""

LARGE = 1024 * 1024
"""In a larger body shorter lists are worth it too, since there are many."""

LONG_IN_LARGE = 512

MAX_QUOTES = 512
"""A body with more of them is text rather than numbers; a large one may have one for every 128 bytes."""

WHOLE = 1024 * 1024
"""A longer list is read piece by piece."""

PIECE = 256 * 1024
"""Bytes of text that a parser is given at a time then: it holds the interpreter's lock for 2 ms."""

_NOT_NESTING = bytes(set(range(256)) - set(b"[],"))
_SPACE = b" \t\n\r"
_FLAT = bytes.maketrans(b"[]", b"  ")
_OPENING, _CLOSING, _COMMA = b"[],"
_STEP = np.zeros(256, np.int8)
_STEP[_OPENING], _STEP[_CLOSING] = 1, -1
_BEFORE_LIST = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*(?=\[)")
_MARK = secrets.token_hex(8)
"""Stands, with a number behind it, where a list was taken out. Nobody outside can know it."""

_CODES: dict[str, type[Any]] = {"i": np.int64, "u": np.uint64, "d": np.float64}

_parsers: list[Any] = []


class Numbers:
    """A list of numbers in row-major order, as 64-bit integers or floats, before it is known what it shall become.

    `shape` is None when its lists are not equally long. `lenient` says whether its text may have NaN in it.
    """

    __slots__ = ("flat", "lenient", "shape", "text")

    def __init__(self, text: bytes | memoryview, flat: Array, shape: Shape | None, *, lenient: bool) -> None:
        self.text = text
        self.flat = flat
        self.shape = shape
        self.lenient = lenient

    def read(self, dtype_name: str) -> Array | None:
        """The array; None when the list is not regular, or not all of its numbers are of this type and in range."""
        dtype = DTYPES.get(dtype_name)
        if dtype is None or self.shape is None or dtype.kind not in ("int", "float"):
            return None
        if dtype.kind == "int" and self.flat.dtype == np.float64:
            return None
        array = _narrow(self.flat, dtype.numpy)
        return None if array is None else array.reshape(self.shape)


def decode(body: bytes, *, lenient: bool = False) -> Any:
    """The JSON with `Numbers` in place of each long list of numbers that is an object's value.

    Where nothing is long, or it is hard to tell, it is all plain Python. Raises `orjson.JSONDecodeError`, and
    `ExpandsTooMuch` before more is built than is good for all.
    """
    if len(body) < LONG:
        return orjson.loads(body)
    rest, found = _take_out(body, lenient=lenient)
    check_expansion(rest)
    if not found:
        return orjson.loads(body)
    try:
        return _put_back(orjson.loads(rest), found)
    except orjson.JSONDecodeError:
        check_expansion(body)
        return orjson.loads(body)  # for the right words and position


def without_lists(body: bytes) -> bytes:
    """The JSON without its long lists of numbers."""
    return _take_out(body, lenient=False)[0]


def parse(text: bytes | memoryview, *, lenient: bool = False) -> Numbers | None:
    """The list in `text`; None when it is not JSON, empty somewhere, or has anything but numbers in it."""
    if len(text) > WHOLE:
        return _parse_pieces(memoryview(text), lenient=lenient)
    text = bytes(text)
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        parsed: Any = parser.parse(text)
        flat = next(iter(_flat(parsed, _codes(text))), None)
        del parsed
    except (ValueError, RuntimeError):  # no JSON, or nested too deeply
        return None
    finally:
        _parsers.append(parser)
    return None if flat is None or not flat.size else Numbers(text, flat, shape_of(text, len(flat)), lenient=lenient)


def shape_of(text: bytes, count: int) -> Shape | None:
    """The shape of a list of `count` numbers, by its brackets and commas; None when it is ragged or empty."""
    if count and text.find(b"[", 1) < 0:
        return (count,)
    return _shape_of_skeleton(text.translate(None, _NOT_NESTING), count)


def _shape_of_skeleton(skeleton: bytes, count: int) -> Shape | None:
    """`skeleton` is a list's text without everything but brackets and commas."""
    rank = _rank(skeleton)
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
    # `[]` and `[7]` have the same skeleton: the count tells them apart.
    return shape if length == len(skeleton) and prod(shape) == count else None


def _rank(skeleton: bytes) -> int:
    """How many brackets it begins with, without a copy of the rest; just more than `MAX_RANK` at most."""
    begun = skeleton[: MAX_RANK + 1]
    return len(begun) - len(begun.lstrip(b"["))


def _repeats(marks: NDArray[np.uint8], length: int) -> bool:
    """Whether the first `length` characters are repeated to the end, with a comma between.

    Compares piece by piece: a copy of the text would be built, and compared, while all other threads wait.
    """
    if len(marks) > length and marks[length] != _COMMA:
        return False
    period = length + 1
    return all(
        np.array_equal(marks[at : min(at + PIECE, len(marks) - period)], marks[at + period : at + period + PIECE])
        for at in range(0, len(marks) - period, PIECE)
    )


def _codes(text: bytes | memoryview) -> Sequence[str]:
    """The types to try, in order. A list that begins with a fraction has no integers to be kept exact."""
    return "d" if b"." in bytes(text[:256]) else "iud"


def _flat(parsed: Any, codes: Sequence[str]) -> Iterator[Array]:
    """The numbers in the types that hold them all."""
    for code in codes:
        try:
            flat = np.frombuffer(parsed.as_buffer(of_type=code), _CODES[code])
        except (ValueError, TypeError, RuntimeError):
            continue
        yield flat


def _narrow(wide: Array, dtype: np.dtype[Any]) -> Array | None:
    """None when a number does not fit."""
    if dtype == wide.dtype:
        return wide
    if dtype.kind not in "iu":  # bfloat16 has a kind of its own
        wide = wide.astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            array = wide.astype(dtype, copy=False)
        return array if np.isfinite(array).all() or (np.isfinite(array) == np.isfinite(wide)).all() else None
    limits = np.iinfo(dtype)
    return wide.astype(dtype) if limits.min <= wide.min() and wide.max() <= limits.max else None


# --- piece by piece


def _parse_pieces(text: memoryview, *, lenient: bool) -> Numbers | None:
    for code in _codes(text):
        flat = _join(text, code, lenient=lenient and code == "d")
        if flat is not None:
            break
    else:
        return None
    skeletons: list[bytes] = []
    for piece in _pieces(text):
        if not _is_spaced(piece):
            return None
        skeletons.append(piece.translate(None, _NOT_NESTING))
    skeleton = b",".join(skeletons)
    shape = _shape_of_skeleton(skeleton, len(flat))
    # With more than one dimension the shape proves that the brackets are balanced.
    is_proven = shape is not None and len(shape) > 1
    return Numbers(text, flat, shape, lenient=lenient) if is_proven or _is_balanced(skeleton) else None


def _pieces(text: memoryview) -> Iterator[bytes]:
    """The text, cut at commas, without those."""
    at, size = 0, PIECE
    while at < len(text):
        piece = bytes(text[at : at + size])
        if at + size < len(text):
            if (cut := piece.rfind(b",")) < 0:
                size *= 2  # no comma: this piece is all white space or one number
                continue
            piece = piece[:cut]
        yield piece
        at, size = at + len(piece) + 1, PIECE
    if bytes(text[-1:]) == b",":
        yield b""


def _is_spaced(piece: bytes) -> bool:
    """Whether lists begin only behind a comma or the beginning of another, and end only before such.

    Together with each element's being a number this is what JSON wants of a list that has no strings in it.
    """
    marks = np.frombuffer(piece.translate(None, _SPACE), np.uint8)
    openings, closings = np.flatnonzero(marks == _OPENING), np.flatnonzero(marks == _CLOSING)
    before = marks[openings[openings > 0] - 1]
    behind = marks[closings[closings < len(marks) - 1] + 1]
    return bool(((before == _OPENING) | (before == _COMMA)).all() and ((behind == _CLOSING) | (behind == _COMMA)).all())


def _is_balanced(skeleton: bytes) -> bool:
    """Whether the first bracket is closed by the last character, and not before.

    Works piece by piece: numpy adds up one large array while all other threads wait.
    """
    marks, level = np.frombuffer(skeleton, np.uint8), 0
    for at in range(0, len(marks), PIECE):
        levels = np.cumsum(_STEP[marks[at : at + PIECE]], dtype=np.int64) + level
        level = int(levels[-1])
        is_last = at + PIECE >= len(marks)
        if not ((levels[:-1] if is_last else levels) > 0).all():
            return False
    return level == 0


def _join(text: memoryview, code: str, *, lenient: bool) -> Array | None:
    """All numbers; None when one is not of this type, or a piece is not JSON."""
    parser, arrays = simdjson.Parser(), []
    for piece in _pieces(text):
        flat = b"[" + piece.translate(_FLAT) + b"]"
        try:
            parsed: Any = parser.parse(flat)
            array = next(_flat(parsed, code), None)
            del parsed
        except (ValueError, RuntimeError):
            array = _with_nan(flat) if lenient else None
        if array is None or not array.size:
            return None
        arrays.append(array)
    return np.concatenate(arrays)


def _with_nan(text: bytes) -> Array | None:
    """Numbers among which NaN and infinities are written as bare words."""
    try:
        values = json.loads(text, parse_float=_finite)
        return np.array(values, np.float64) if {*map(type, values)} <= {int, float} else None
    except (ValueError, OverflowError):
        return None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is more than a number can be")
    return number


# --- taken out of a document, and put back


def _take_out(body: bytes, *, lenient: bool) -> tuple[bytes, list[Numbers]]:
    """The body with marks for its long lists of numbers, and those.

    Without backslashes, every other quote begins a text; so what stands behind a text and begins with `: [` is the
    value of a key. It ends at the last `]` before the next `}` or quote, if it is made of numbers. If it was cut at the
    wrong place, then either the rest or the list has an odd bracket, and is not JSON.
    """
    pieces: list[bytes] = []
    found: list[Numbers] = []
    done, view = 0, memoryview(body)  # a copy of a long list would hold up all other threads
    long = LONG_IN_LARGE if len(body) > LARGE else LONG
    for start, end in _outside_of_texts(body) if b"\\" not in body else ():
        if end - start < long or (before := _BEFORE_LIST.match(body, start, end)) is None:
            continue
        close = body.find(b"}", before.end(), end)
        stop = body.rfind(b"]", before.end(), end if close < 0 else close) + 1
        if stop - before.end() >= long and (numbers := parse(view[before.end() : stop], lenient=lenient)) is not None:
            pieces += (body[done : before.end()], f'"{_MARK}{len(found)}"'.encode())
            found.append(numbers)
            done = stop
    return b"".join([*pieces, body[done:]]) if found else body, found


def _outside_of_texts(body: bytes) -> list[tuple[int, int]]:
    """Where the stretches behind each text begin and end. Nothing when there are too many."""
    most = max(MAX_QUOTES, len(body) // 128)
    quotes = [-1]
    while len(quotes) <= most:
        at = body.find(b'"', quotes[-1] + 1)
        if at < 0:
            ends = [*quotes[3::2], len(body)]
            return [(start + 1, end) for start, end in zip(quotes[2::2], ends, strict=False)]
        quotes.append(at)
    return []


def _put_back(document: Any, found: list[Numbers]) -> Any:
    """Puts the lists where their marks are."""
    containers = [document]
    while containers:
        node = containers.pop()
        if node.__class__ is dict:
            for key, value in node.items():
                if value.__class__ is str and value.startswith(_MARK):
                    node[key] = found[int(value[len(_MARK) :])]
                elif value.__class__ in (dict, list):
                    containers.append(value)
        elif node.__class__ is list:
            containers += [each for each in node if each.__class__ in (dict, list)]
    return document
