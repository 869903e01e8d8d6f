"""Reads the fields of protocol buffers in a file, without their definition and without reading the file as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Field(NamedTuple):
    number: int
    #: None for bytes
    value: int | None
    start: bytes
    #: where its bytes are in the file
    at: int
    end: int


def inside(opened: BinaryIO, number: int, at: int, end: int) -> Iterator[Field]:
    return (field for field in read_fields(opened, at, end) if field.number == number)


def read_fields(opened: BinaryIO, at: int, size: int) -> Iterator[Field]:
    """The fields between two positions, with the first bytes of each. Raises `ValueError`; `EOFError` if cut off."""
    while at < size:
        opened.seek(at)
        head = opened.read(256)
        key, used = varint(head, 0)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29 or wire not in (0, 1, 2, 5):
            raise ValueError("not a protocol buffer")
        value, end = varint(head, used) if wire in (0, 2) else (0, used + (8 if wire == 1 else 4))
        begun, at = at + end, at + end + (value if wire == 2 else 0)
        yield Field(number, None if wire == 2 else value, head[end : end + value] if wire == 2 else b"", begun, at)
    if at > size:
        raise EOFError


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise EOFError
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
