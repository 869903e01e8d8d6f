"""Long lists of numbers in JSON, read without making a Python object of each number.

orjson needs 15 ms for the 150,000 numbers of a picture, simdjson 2 ms, since it writes them straight into a buffer.
But it drops the nesting. So the nesting is proven from the text: what is left of it without the numbers (brackets and
commas) must be the skeleton of a regular array of just that many elements.
"""

from __future__ import annotations

import re
import secrets
from math import prod
from typing import Any

import numpy as np
import orjson
import simdjson

from tfserve.tensors import DTYPES, MAX_RANK, Array, Shape

LONG = 8 * 1024
"""Bytes of text from which a list is worth the trouble."""

MAX_QUOTES = 512
"""A body with more of them is text rather than numbers."""

MAX_KEPT = 8 * 1024 * 1024
"""A parser keeps several times as much memory as its largest text, so it is kept after smaller ones only."""

_NOT_NESTING = bytes(set(range(256)) - set(b"[],"))
_BEFORE_LIST = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*(?=\[)")
_MARK = secrets.token_hex(8)
"""Stands, with a number behind it, where a list was taken out. Nobody outside can know it."""

_WIDE: dict[str, tuple[str, type[Any]]] = {"float": ("d", np.float64), "int": ("i", np.int64)}

_parsers: list[Any] = []


class Numbers:
    """The JSON text of a list that is read when it is known what it shall become.

    `lenient` says whether the body it is from may have NaN in it.
    """

    __slots__ = ("lenient", "text")

    def __init__(self, text: bytes, *, lenient: bool) -> None:
        self.text = text
        self.lenient = lenient

    def read(self, dtype_name: str) -> Array | None:
        """The array; None when the text is anything but a regular list of such numbers, all in range."""
        dtype = DTYPES.get(dtype_name)
        if dtype is None or dtype.kind not in _WIDE:
            return None
        code, wide = ("u", np.uint64) if dtype.name == "uint64" else _WIDE[dtype.kind]
        try:
            flat = np.frombuffer(_flatten(self.text, code), wide)
        except (ValueError, TypeError, RuntimeError):  # no JSON, nested too deeply, or not all such numbers
            return None
        shape = shape_of(self.text, len(flat))
        if shape is None:
            return None
        array = _narrow(flat, dtype.numpy)
        return None if array is None else array.reshape(shape)


def decode(body: bytes, *, lenient: bool = False) -> Any:
    """The JSON with `Numbers` in place of each long list that is an object's value.

    Raises `orjson.JSONDecodeError`. Where nothing is long, or it is hard to tell, it is all plain Python. What is in a
    `Numbers` is not checked before it is read.
    """
    if len(body) < LONG or b"\\" in body:
        return orjson.loads(body)
    rest, found = _take_out(body, lenient=lenient)
    if not found:
        return orjson.loads(body)
    try:
        return _put_back(orjson.loads(rest), found)
    except orjson.JSONDecodeError:
        return orjson.loads(body)  # for the right words and position


def shape_of(text: bytes, count: int) -> Shape | None:
    """The shape of a list of `count` numbers, by its brackets and commas; None when it is ragged or empty."""
    if count and text.find(b"[", 1) < 0:
        return (count,)
    skeleton = text.translate(None, _NOT_NESTING)
    rank = len(skeleton) - len(skeleton.lstrip(b"["))
    if not count or rank > MAX_RANK:
        return None
    sizes: list[int] = []
    element = b""
    for depth in range(1, rank + 1):  # from the innermost lists outwards, by the first list of each depth
        start = rank - depth + 1
        length = skeleton.find(b"]" * depth, start) + depth - 1 - start
        size, remainder = divmod(length + 1, len(element) + 1)
        if remainder or size < 1:
            return None
        sizes.append(size)
        element = b"[" + b",".join([element] * size) + b"]"
    shape = tuple(reversed(sizes))
    # `[]` and `[7]` have the same skeleton: the count tells them apart.
    return shape if element == skeleton and prod(shape) == count else None


def _flatten(text: bytes, code: str) -> Any:
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        parsed: Any = parser.parse(text)
        return parsed.as_buffer(of_type=code)
    finally:
        if len(text) <= MAX_KEPT:
            _parsers.append(parser)


def _narrow(wide: Array, dtype: np.dtype[Any]) -> Array | None:
    """None when a number does not fit."""
    if dtype == wide.dtype:
        return wide
    if wide.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = wide.astype(dtype)
        return array if np.isfinite(array).all() else None
    limits = np.iinfo(dtype)
    return wide.astype(dtype) if limits.min <= wide.min() and wide.max() <= limits.max else None


def _take_out(body: bytes, *, lenient: bool) -> tuple[bytes, list[Numbers]]:
    """The body with marks for its long lists, and those.

    Without backslashes, every other quote begins a text; so what stands behind a text and begins with `: [` is the
    value of a key. It ends at the last `]` before the next `}` or quote, if it is made of numbers. If it is not, or if
    it was cut at the wrong place, then either the rest or the list has an odd bracket, and is no JSON.
    """
    pieces: list[bytes] = []
    found: list[Numbers] = []
    done = 0
    for start, end in _outside_of_texts(body):
        if end - start < LONG or (before := _BEFORE_LIST.match(body, start, end)) is None:
            continue
        close = body.find(b"}", before.end(), end)
        stop = body.rfind(b"]", before.end(), end if close < 0 else close) + 1
        if stop - before.end() >= LONG:
            pieces += (body[done : before.end()], f'"{_MARK}{len(found)}"'.encode())
            found.append(Numbers(body[before.end() : stop], lenient=lenient))
            done = stop
    return b"".join([*pieces, body[done:]]), found


def _outside_of_texts(body: bytes) -> list[tuple[int, int]]:
    """Where the stretches behind each text begin and end. Nothing when there are too many."""
    quotes = [-1]
    while len(quotes) <= MAX_QUOTES:
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
