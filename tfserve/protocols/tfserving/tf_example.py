"""Writes tf.Example, the record that models for classify and regress take, without TensorFlow.

    message Example   { Features features = 1; }
    message Features  { map<string, Feature> feature = 1; }
    message Feature   { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }, each a list of `repeated value = 1`

In JSON a feature is a value or a list of values of one kind: text or {"b64": …}, floats, whole numbers; true and false
are 1 and 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tfserve.errors import Invalid
from tfserve.tensor_json import plain
from tfserve.tensors import decode_b64, encode_text

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_KINDS: dict[type, int] = {str: _BYTES, dict: _BYTES, float: _FLOATS, int: _INTEGERS, bool: _INTEGERS}


def encode(features: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example. Raises `Invalid` that names the feature."""
    entries = [
        _field(1, _field(1, encode_text(name, "The name of a feature")) + _field(2, _feature(name, features[name])))
        for name in features
    ]
    return _field(1, b"".join(entries))


def _feature(name: str, value: Any) -> bytes:
    value = plain(value)
    values = value if isinstance(value, list) else [value]
    if not values:
        return b""
    kinds = {_KINDS.get(type(each)) for each in values}
    if len(kinds) > 1 or None in kinds:
        raise Invalid(
            f'Feature {name!r} takes a value or a list of values of one kind: text, {{"b64": …}}, floats or whole'
            " numbers."
        )
    (kind,) = kinds
    try:
        return _field(kind or 0, _LISTS[kind or 0](values, f"Feature {name!r}"))
    except (struct.error, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"Feature {name!r} has a value that can't be given: {error}.") from None


def _bytes_list(values: Sequence[Any], owner: str) -> bytes:
    return b"".join([_field(1, _octets(each, owner)) for each in values])


def _octets(value: str | dict[str, str], owner: str) -> bytes:
    if isinstance(value, str):
        return encode_text(value, owner)
    if value.keys() != {"b64"}:
        raise KeyError('an object must be {"b64": …}')
    return decode_b64(value["b64"], owner)


def _float_list(values: Sequence[float], _: str) -> bytes:
    return _field(1, struct.pack(f"<{len(values)}f", *values))


def _integer_list(values: Sequence[int], _: str) -> bytes:
    # A negative number is written as the unsigned one with the same 64 bits.
    return _field(1, b"".join([_varint(struct.unpack("<Q", struct.pack("<q", each))[0]) for each in values]))


_LISTS = {_BYTES: _bytes_list, _FLOATS: _float_list, _INTEGERS: _integer_list}


def _field(number: int, content: bytes) -> bytes:
    """A field of a message, of the wire type that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; the eighth says that there are more."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
