"""The fields of a serialized protocol buffer, read without its schema: enough for a few facts about a large file.

The messages that TensorFlow generates are not used: they can be imported only with TensorFlow (seconds, and hundreds of
megabytes), and parsing one copies the whole graph, which may have gigabytes of constants. Here nothing is copied, and
`read_fields` reads only the beginnings of the fields of a file.

All functions raise `ValueError` for what is not a message, and `IndexError` for one that is truncated.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import BinaryIO, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_MAX_RUN = 10_000
"""Fields that are skipped at once."""


class Field(NamedTuple):
    """`value` is the number of an integer field, whose `bytes` are empty."""

    number: int
    bytes: memoryview
    value: int


def fields(data: memoryview) -> Iterator[Field]:
    """All fields of a message, in order."""
    at = 0
    while at < len(data):
        field, at = _field(data, at)
        yield field


def of(data: memoryview, number: int) -> Iterator[memoryview]:
    """The content of each field with this number.

    Skips all others without looking at them: a graph has thousands of nodes, and this takes a third of the time.
    """
    at, end, tag, last = 0, len(data), number << 3 | _BYTES, -1
    while at < end:
        key = data[at]
        if key == last and key >> 3 != number and _is_small(data, at) and (after := _after_run(data, at, key)) > at:
            at = after
            continue
        last = key
        if key < 0x80 and key & 7 == _BYTES and at + 1 < end:
            size, at = data[at + 1], at + 2
            if size & 0x80:
                size, at = varint(data, at - 1)
            if at + size > end:
                raise IndexError
            if key == tag:
                yield data[at : at + size]
            at += size
        else:
            field, at = _field(data, at)
            if field.number == number:
                yield field.bytes


def chosen(data: memoryview, numbers: Collection[int]) -> Iterator[Field]:
    """The fields with one of these numbers, in order. Raises what `fields` raises."""
    at, end, last = 0, len(data), -1
    while at < end:
        key = data[at]
        if key == last and (after := _after_run(data, at, key)) > at:
            at = after
            continue
        field, at = _field(data, at)
        last = -1 if field.number in numbers else key
        if field.number in numbers:
            yield field


def entry(data: memoryview) -> tuple[str, memoryview]:
    """Key and value of a map's entry, or of any message with a text as field 1 and something as field 2."""
    found = {field.number: field.bytes for field in fields(data)}
    return str(found.get(1, memoryview(b"")), "utf-8"), found.get(2, memoryview(b""))


def _is_small(data: memoryview, at: int) -> bool:
    """Whether the field may be part of a run of small ones: texts of 128 bytes and more are not."""
    return data[at] & 7 != _BYTES or (at + 1 < len(data) and data[at + 1] < 0x80)


def _after_run(data: memoryview, at: int, key: int) -> int:
    """Where the small fields from a position on end that have the same key; the position itself if none has.

    Forests of decision trees have attributes with millions of them, for which a loop in Python would take minutes.
    """
    run = _run_of(key)
    found = run.match(data, at) if run is not None else None
    return found.end() if found is not None else at


@cache
def _run_of(key: int) -> re.Pattern[bytes] | None:
    """Matches whole fields with a key of one byte. The first bytes of each determine its length.

    Atomic groups and possessive repeats (`(?>…)`, `++`) would need no memory for steps back, but Python before 3.11.5
    matches them wrongly. So the number of repeats is limited, and callers continue after them.
    """
    texts = b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(0x80))
    contents = {_VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", _FIXED64: b".{8}", _FIXED32: b".{4}", _BYTES: texts}
    content = contents.get(key & 7) if key < 0x80 else None
    return re.compile(rb"(?:\x%02x(?:%b)){1,%d}" % (key, content, _MAX_RUN), re.DOTALL) if content is not None else None


def _field(data: memoryview, at: int) -> tuple[Field, int]:
    """The field that begins at a position, and where it ends."""
    key, at = varint(data, at)
    number, wire = key >> 3, key & 7
    value, width = 0, _WIDTHS.get(wire, 0)
    if wire == _VARINT:
        value, at = varint(data, at)
    elif wire == _BYTES:
        width, at = varint(data, at)
    elif wire not in _WIDTHS:
        raise ValueError(f"unknown wire type {wire}")
    if at + width > len(data):
        raise IndexError
    return Field(number, data[at : at + width], value), at + width


class FileField(NamedTuple):
    """A field in a file. `value` is that of an integer field, `start` the first bytes of one with bytes."""

    number: int
    value: int | None
    start: bytes
    #: where its bytes are in the file
    at: int
    end: int


def read_fields(opened: BinaryIO, at: int, size: int) -> Iterator[FileField]:
    """The fields between two positions of a file. A field that is cut off is the last one, before the error."""
    while at < size:
        opened.seek(at)
        head = opened.read(256)
        key, used = varint(head, 0)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29 or wire not in (_VARINT, _BYTES, *_WIDTHS):
            raise ValueError("not a protocol buffer")
        value, end = varint(head, used) if wire in (_VARINT, _BYTES) else (0, used + _WIDTHS[wire])
        begun, at = at + end, at + end + (value if wire == _BYTES else 0)
        is_bytes = wire == _BYTES
        yield FileField(number, None if is_bytes else value, head[end : end + value] if is_bytes else b"", begun, at)
    if at > size:
        raise IndexError


def inside(opened: BinaryIO, number: int, at: int, end: int) -> Iterator[FileField]:
    """The fields with this number."""
    return (field for field in read_fields(opened, at, end) if field.number == number)


def varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """The number at a position, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    return value | data[at] << shift, at + 1
