"""Long lists of numbers in JSON, parsed without creating a Python object per number.

orjson takes 15 ms for the 150,000 numbers of an image, simdjson 3 ms, because it writes them straight into a buffer.
But simdjson drops the nesting, so the shape is found from the text (`json_skeleton`). Lists of many megabytes are read
in chunks, which lets other threads run (`json_chunks`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

import orjson
import simdjson

from tfserve.tensors import json_chunks, json_skeleton, number_arrays
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.json_limits import check_expansion
from tfserve.tensors.specs import Array, Shape

LONG = 8 * 1024
"""Minimum length of a list's text, in bytes, for this to pay off."""

LARGE = 1024 * 1024
"""In larger bodies it pays off for shorter lists, too, because there are many of them."""

LONG_IN_LARGE = 512

MAX_QUOTES = 512
"""A body with more of them is text rather than numbers; a large one may have one for every 128 bytes."""

WHOLE = 1024 * 1024
"""Longer lists are read in chunks."""

_BEFORE_LIST = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*(?=\[)")
_MARK = secrets.token_hex(8)
"""Followed by a number, the placeholder for an extracted list. Random, so that clients cannot forge it."""

_parsers: list[Any] = []


class Numbers:
    """A list of numbers in row-major order, as 64-bit integers or floats, before its target type is known.

    They are in `arrays` of one type. `shape` is None for a ragged list. `lenient` means that its text may contain NaN.
    """

    __slots__ = ("arrays", "lenient", "shape", "text")

    def __init__(
        self, text: bytes | memoryview, arrays: Sequence[Array], shape: Shape | None, *, lenient: bool
    ) -> None:
        self.text = text
        self.arrays = arrays
        self.shape = shape
        self.lenient = lenient

    def read(self, dtype_name: str) -> Array | None:
        """The array; None if the list is ragged or a number is out of range or of another type."""
        dtype = DTYPES.get(dtype_name)
        if dtype is None or self.shape is None or dtype.kind not in ("int", "float"):
            return None
        array = number_arrays.joined(self.arrays, dtype.numpy)
        return None if array is None else array.reshape(self.shape)


def decode(body: bytes, *, lenient: bool = False) -> Any:
    """The JSON with each long list of numbers that is an object's value replaced by `Numbers`.

    Plain Python if there is no long list, or if it is hard to find. Raises `orjson.JSONDecodeError`, and
    `ExpandsTooMuch` before too many values are built.
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
        return orjson.loads(body)  # for its error message and position


def without_lists(body: bytes) -> bytes:
    """The JSON without its long lists of numbers."""
    return _take_out(body, lenient=False)[0]


def parse(text: bytes | memoryview, *, lenient: bool = False) -> Numbers | None:
    """The list in `text`; None if it is not JSON, has an empty list, or contains anything but numbers."""
    if len(text) > WHOLE:
        found = json_chunks.parse(memoryview(text), lenient=lenient)
        return None if found is None else Numbers(text, found.arrays, found.shape, lenient=lenient)
    text = bytes(text)
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        parsed: Any = parser.parse(text)
        array = number_arrays.read(parsed, number_arrays.codes_of(text))
        del parsed
    except (ValueError, RuntimeError):  # invalid JSON, or nested too deeply
        return None
    finally:
        _parsers.append(parser)
    if array is None or not array.size:
        return None
    return Numbers(text, [array], json_skeleton.shape_of(text, len(array)), lenient=lenient)


# --- extracting lists from a document and putting them back


def _take_out(body: bytes, *, lenient: bool) -> tuple[bytes, list[Numbers]]:
    """The body with placeholders for its long lists of numbers, and the lists.

    Without backslashes, every other quote begins a string, so `: [` after a string begins the value of a key. A list of
    numbers ends at the last `]` before the next `}` or quote. If it is cut at the wrong position, the rest or the list
    has an unbalanced bracket and is not valid JSON.
    """
    pieces: list[bytes] = []
    found: list[Numbers] = []
    done, view = 0, memoryview(body)  # copying a long list would block all other threads
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
    """Begin and end of the text between strings. Nothing if there are too many."""
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
    """Replaces the placeholders with the lists."""
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
