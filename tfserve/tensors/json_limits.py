"""Limits on JSON, checked before parsing: valid UTF-8, nesting depth and number of values.

A few kilobytes of gzip can expand to millions of strings, lists or objects. Building them would exhaust the memory and
block every other request of the process, because a parser holds the GIL until it has finished. So the cost is
estimated from the punctuation first, which takes a millisecond per MiB.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tfserve.errors import Invalid, TooLarge

MAX_DEPTH = 100
PIECE = 2**18

FEW = 8 * 1024
"""In shorter texts `bytes.count` is faster than numpy."""

BOM = codecs.BOM_UTF8

COST_NS = {b"[": 450, b"{": 100, b'"': 70, b":": 150, b",": 50}
"""Relative time that a parser needs for the value that each character begins or separates."""

MAX_COST_NS = 250_000_000
"""About 1,300,000 short strings, 730,000 fields of objects, 500,000 lists, or 5,000,000 numbers."""

SMALL = 64 * 1024
"""Texts up to this many bytes are always cheap to parse."""

QUOTE = ord('"')
_NOT_NESTING = bytes(set(range(256)) - set(b'[]{}"'))
_NOT_STRUCTURE = bytes(set(_NOT_NESTING) - set(b",:"))
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_BACKSLASHES = re.compile(rb"\\*")


class ExpandsTooMuch(TooLarge):
    """The JSON has too many values: more than about 1,300,000 strings, 730,000 fields of objects, 500,000 lists, \
or 5,000,000 numbers outside of long lists. Send several smaller requests, or tensors as binary data (version 2)."""


def without_bom(body: bytes) -> bytes:
    """The text without the byte order mark that some editors and languages write."""
    return body[len(BOM) :] if body.startswith(BOM) else body


def check_text(body: bytes) -> None:
    """Raises `Invalid` for invalid UTF-8 and for very deep nesting."""
    _check_utf8(body)
    if _exceeds(body, {b"[": 1, b"{": 1}, MAX_DEPTH) and depth(body) > MAX_DEPTH:
        raise Invalid(f"the JSON is nested deeper than {MAX_DEPTH} levels")


def check_expansion(text: bytes | memoryview, shortened: Callable[[bytes], bytes] | None = None) -> None:
    """Raises `ExpandsTooMuch`. Ignores the contents of strings and what `shortened` removes from the text."""
    if len(text) <= SMALL or not _exceeds(text, COST_NS, MAX_COST_NS):
        return
    if shortened is not None:
        text = shortened(bytes(text))
    cost_ns = 0
    for marks in _structure(text, _NOT_STRUCTURE):
        counts = np.bincount(marks, minlength=256)
        # Only the closing quote of each string is among the marks.
        cost_ns += sum(int(counts[mark[0]]) * cost * (1 + (mark[0] == QUOTE)) for mark, cost in COST_NS.items())
        if cost_ns > MAX_COST_NS:
            raise ExpandsTooMuch


def _exceeds(text: bytes | memoryview, costs: Mapping[bytes, int], most: int) -> bool:
    """Whether all characters with a cost, including those in strings, cost more than `most`.

    Counts long texts in chunks, which stay in the processor's cache. `bytes.count` would take 16 times as long.
    """
    if len(text) <= FEW:
        few = bytes(text)
        return sum(few.count(mark) * each for mark, each in costs.items()) > most
    cost, characters = 0, np.frombuffer(text, np.uint8)
    for at in range(0, len(text), PIECE):
        piece = characters[at : at + PIECE]
        cost += sum(int(np.count_nonzero(piece == mark[0])) * each for mark, each in costs.items())
        if cost > most:
            return True
    return False


def depth(json: bytes) -> int:
    """Nesting depth of arrays and objects, or `MAX_DEPTH` + 1 if it is deeper. Takes 3 ms for 3 MB of numbers."""
    level = deepest = 0
    for marks in _structure(json, _NOT_NESTING):
        levels = np.cumsum(_STEP[marks], dtype=np.int32) + level
        deepest = max(deepest, int(levels.max(initial=0)))
        if deepest > MAX_DEPTH:
            break
        level = int(levels[-1]) if levels.size else level
    return deepest


def _structure(json: bytes | memoryview, others: bytes) -> Iterator[NDArray[np.uint8]]:
    """The text outside strings without the characters `others`, and the closing quote of each string.

    Works in chunks, which bounds its memory and lets other threads run.
    """
    at = in_string = 0
    while at < len(json):
        end = _BACKSLASHES.match(json, at + PIECE).end() if at + PIECE < len(json) else len(json)  # type: ignore[union-attr]
        end += json[end - 1 : end] == b"\\"  # keep an escape sequence in one chunk
        piece = bytes(json[at:end]).replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, others)
        marks = np.frombuffer(piece, np.uint8)
        inside = (np.cumsum(marks == QUOTE, dtype=np.int32) + in_string) & 1
        in_string = int(inside[-1]) if inside.size else in_string
        yield marks[inside == 0]
        at = end


def _check_utf8(body: bytes) -> None:
    try:
        if len(body) <= PIECE or not _is_utf8(body):
            body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"the body must be UTF-8 JSON; invalid byte at offset {error.start}: {error.reason}") from None


def _is_utf8(body: bytes) -> bool:
    """The same in chunks, so that no text as long as the body is built."""
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(body)
    try:
        for at in range(0, len(body), PIECE):
            decoder.decode(view[at : at + PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
