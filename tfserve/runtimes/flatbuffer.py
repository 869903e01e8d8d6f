"""The tables of a flatbuffer, read without its schema: enough for a few facts in a LiteRT file.

Everything raises `ValueError`, `IndexError` or `struct.error` if the data is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator


class FlatbufferTable:
    """A table; its fields are numbered in the order of the schema."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at

    @classmethod
    def root(cls, data: memoryview) -> FlatbufferTable:
        return cls(data, _number(data, "<I", 0))

    def byte(self, field: int) -> int:
        """0 if the field is missing, as for the other numbers."""
        return self._scalar(field, "<B")

    def integer(self, field: int) -> int:
        return self._scalar(field, "<I")

    def table(self, field: int) -> FlatbufferTable | None:
        at = self._reference(field)
        return None if at is None else FlatbufferTable(self._data, at)

    def tables(self, field: int) -> Iterator[FlatbufferTable]:
        """The elements of a vector of tables."""
        begin, count = self._vector(field)
        for at in range(begin, begin + 4 * count, 4):
            yield FlatbufferTable(self._data, at + _number(self._data, "<I", at))

    def octets(self, field: int) -> memoryview:
        """The bytes of a text or of a vector of bytes."""
        begin, count = self._vector(field)
        if begin + count > len(self._data):
            raise IndexError
        return self._data[begin : begin + count]

    def text(self, field: int) -> str:
        return str(self.octets(field), "utf-8")

    def floats(self, field: int) -> list[float]:
        begin, count = self._vector(field)
        return [_number(self._data, "<f", at) for at in range(begin, begin + 4 * count, 4)]

    def _place(self, field: int) -> int | None:
        table = self._at - _number(self._data, "<i", self._at)
        slot = 4 + 2 * field
        offset = _number(self._data, "<H", table + slot) if slot < _number(self._data, "<H", table) else 0
        return self._at + offset if offset else None

    def _scalar(self, field: int, code: str) -> int:
        at = self._place(field)
        return 0 if at is None else _number(self._data, code, at)

    def _reference(self, field: int) -> int | None:
        at = self._place(field)
        return None if at is None else at + _number(self._data, "<I", at)

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the first element is, and how many there are."""
        at = self._reference(field)
        return (0, 0) if at is None else (at + 4, _number(self._data, "<I", at))


def _number(data: memoryview, code: str, at: int) -> int:
    if at < 0:
        raise IndexError
    (value,) = struct.unpack_from(code, data, at)
    return value  # type: ignore[no-any-return]
