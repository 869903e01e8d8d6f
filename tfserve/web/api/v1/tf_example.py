"""Writes tf.Example, the input of models for classify and regress, without TensorFlow.

    message Example   { Features features = 1; }
    message Features  { map<string, Feature> feature = 1; }
    message Feature   { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }, each a list of `repeated value = 1`

In JSON a feature is a value or a list of values of one type: text or {"b64": …}, floats, integers; true and false are 1
and 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tfserve.errors import Invalid
from tfserve.tensors.specs import decode_b64, encode_text
from tfserve.tensors.tensor_json import plain

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_KINDS: dict[type, int] = {str: _BYTES, dict: _BYTES, float: _FLOATS, int: _INTEGERS, bool: _INTEGERS}


def encode(features: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example. Raises `Invalid` with the name of the feature."""
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
            f'Feature {name!r} must be a value or a list of values of one type: text, {{"b64": …}}, floats or whole'
            " numbers."
        )
    (kind,) = kinds
    try:
        return _field(kind or 0, _LISTS[kind or 0](values, f"Feature {name!r}"))
    except (struct.error, OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"Feature {name!r} has an invalid value: {error}.") from None


def _bytes_list(values: Sequence[Any], owner: str) -> bytes:
    return b"".join([_field(1, _octets(each, owner)) for each in values])


def _octets(value: str | dict[str, str], owner: str) -> bytes:
    if isinstance(value, str):
        return encode_text(value, owner)
    if value.keys() != {"b64"}:
        raise KeyError('objects must be {"b64": …}')
    return decode_b64(value["b64"], owner)


def _float_list(values: Sequence[float], _: str) -> bytes:
    return _field(1, struct.pack(f"<{len(values)}f", *values))


def _integer_list(values: Sequence[int], _: str) -> bytes:
    # A negative number is written as the unsigned number with the same 64 bits.
    return _field(1, b"".join([_varint(struct.unpack("<Q", struct.pack("<q", each))[0]) for each in values]))


_LISTS = {_BYTES: _bytes_list, _FLOATS: _float_list, _INTEGERS: _integer_list}


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """A varint: seven bits per byte, lowest first; the eighth bit means that more bytes follow."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
