"""What a message expands to, found out from its bytes before it is built.

A field of two bytes can become an object of a hundred, and a number of one byte takes eight: a message of some
kilobytes (compressed) would take gigabytes. So the fields are counted first, by walking over their lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from tfserve.errors import TooLarge

MAX_FIELDS = 300_000
MAX_NUMBERS = 16 * 1024 * 1024
FEW_FIELDS = 2_000
FEW_NUMBERS = 100_000
MAX_DEPTH = 100
"""Where protobuf itself gives up."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_VARINTS = frozenset(
    {
        FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM,
    }
)  # fmt: skip


class MessageExpandsTooMuch(TooLarge):
    """The message has too many values to be built at once: more than {fields} fields, or {numbers} integers. Send \
several smaller requests, or tensors as raw bytes (raw_input_contents, tensor_content)."""


class _Enough(Exception):
    """More was found than was to be counted."""


class _NotAMessage(Exception):
    """Protobuf will say what is wrong."""


def is_small(data: bytes, descriptor: Any) -> bool:
    """Whether the message is made of so little that it is read in no time. Costs 2 ms at most."""
    return _fits(data, descriptor, FEW_FIELDS, FEW_NUMBERS)


def check(data: bytes, descriptor: Any) -> None:
    """Raises `MessageExpandsTooMuch`."""
    if not _fits(data, descriptor, MAX_FIELDS, MAX_NUMBERS):
        raise MessageExpandsTooMuch(fields=MAX_FIELDS, numbers=MAX_NUMBERS)


def _fits(data: bytes, descriptor: Any, fields: int, numbers: int) -> bool:
    try:
        _Walk(data, fields, numbers).over(0, len(data), descriptor, 0)
    except _Enough:
        return False
    except (_NotAMessage, IndexError):
        pass
    return True


class _Walk:
    """Counts down what may still come."""

    def __init__(self, data: bytes, fields: int, numbers: int) -> None:
        self._data = data
        self._fields = fields
        self._numbers = numbers

    def over(self, at: int, end: int, descriptor: Any, depth: int) -> None:
        known = descriptor.fields_by_number
        while at < end:
            self._fields -= 1
            if self._fields < 0:
                raise _Enough
            tag, at = self._varint(at)
            wire = tag & 7
            if wire == _LENGTH:
                size, at = self._varint(at)
                if at + size > end:
                    raise _NotAMessage
                self._within(at, at + size, known.get(tag >> 3), depth)
                at += size
            elif wire == _VARINT:
                _, at = self._varint(at)
            elif wire in _FIXED_BYTES:
                at += _FIXED_BYTES[wire]
            else:
                raise _NotAMessage  # groups are in none of our messages

    def _within(self, at: int, end: int, field: Any, depth: int) -> None:
        """What is in a field that has a length."""
        if field is None:
            return
        if field.message_type is not None:
            if depth >= MAX_DEPTH:
                raise _NotAMessage
            self.over(at, end, field.message_type, depth + 1)
        elif field.type in _VARINTS:  # the last byte of each number is below 128
            self._numbers -= int(np.count_nonzero(np.frombuffer(self._data, np.uint8, end - at, at) < 0x80))
            if self._numbers < 0:
                raise _Enough

    def _varint(self, at: int) -> tuple[int, int]:
        data = self._data
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at + 1
            shift += 7
            if shift > 63:
                raise _NotAMessage
