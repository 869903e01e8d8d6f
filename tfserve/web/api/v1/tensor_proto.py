"""Conversion between TensorProto and arrays.

`tensor_content` has the elements in memory layout; for strings, first all lengths (varints), then all bytes. Otherwise
the elements are in the list field of their type. It may have fewer elements than the shape: the last one is repeated,
and an empty list means zeros.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc.predictions import len_of
from tfserve.tensors.casting import out_of_range
from tfserve.tensors.dtypes import DTYPES, NAMES
from tfserve.tensors.specs import Array, Shape, TensorSpec, check_shape
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.v1 import core
from tfserve.web.predictions import signature_checks

_OWN_FIELDS = {
    "bool": "bool_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "int64": "int64_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "string": "string_val",
}
FIELDS = {name: _OWN_FIELDS.get(name, "int_val") for name in DTYPES}
"""TensorFlow's names of types → the list field of their elements; the smaller integers share one."""

_AS_IN_MEMORY = ("bool_val", "float_val", "double_val")

FILLED_BYTES = 4 * 1024 * 1024
"""The largest array that may be filled by repeating the last value of a message."""

STRING_BYTES = 64
"""Memory of a short string object."""


def to_array(tensor: tf.TensorProto, spec: TensorSpec) -> Array:
    """The array of an input. Raises `Invalid`, also if repeating the last value would exceed `FILLED_BYTES`."""
    core.check_input(spec)
    if tensor.dtype != DTYPES[spec.dtype].number:
        raise _wrong_type(tensor, spec)
    if tensor.tensor_shape.unknown_rank:
        raise Invalid(f"Input {spec.name!r} has a tensor_shape of unknown rank. Set its dimensions.")
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    check_shape(shape, spec, spec.name)
    if tensor.tensor_content:
        return _content(tensor.tensor_content, spec, shape).reshape(shape)
    values = _values(tensor, spec)
    return (values if len(values) == len_of(shape) else _filled(values, spec, shape)).reshape(shape)


def fill(proto: tf.TensorProto, array: Array) -> None:
    """Sets an output, with its elements in the list field of their type, where clients can read them."""
    dtype = DTYPES[NAMES[array.dtype]]
    field = FIELDS[dtype.name]
    proto.dtype = dtype.number  # type: ignore[assignment]
    proto.tensor_shape.SetInParent()  # a scalar has a shape, too, with no dimensions
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if field in _AS_IN_MEMORY:
        # A list of these is written like bytes with its field number. A list of Python numbers takes 60 times as long.
        proto.MergeFromString(tf.PackedValues(**{field: array.tobytes()}).SerializeToString())
    else:
        elements = array.view(np.uint16) if field == "half_val" else array
        getattr(proto, field).extend(elements.ravel().tolist())


def _content(content: bytes, spec: TensorSpec, shape: Shape) -> Array:
    count = len_of(shape)
    if spec.dtype == "string":
        return _strings_of(content, spec, count)
    dtype = DTYPES[spec.dtype].numpy
    if len(content) != count * dtype.itemsize:
        raise Invalid(
            f"Input {spec.name!r} of shape {list(shape)} requires {count * dtype.itemsize} bytes of tensor_content"
            f" ({count} elements of {dtype.itemsize}), got {len(content)}."
        )
    if spec.dtype == "bool":
        signature_checks.require_bools(content, spec.name)
    return np.frombuffer(content, dtype)


def _strings_of(content: bytes, spec: TensorSpec, count: int) -> Array:
    """All lengths first, as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < count:
        length = shift = 0
        while True:
            if at >= len(content) or shift > 35:
                raise Invalid(
                    f"Input {spec.name!r} has {count} strings, but tensor_content is truncated within their lengths."
                )
            byte = content[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise Invalid(
            f"Input {spec.name!r} has strings with a total length of {sum(lengths)} bytes in tensor_content,"
            f" got {len(content) - at}."
        )
    ends = np.cumsum([at, *lengths]).tolist()
    return _objects([content[start:end] for start, end in itertools.pairwise(ends)])


def _values(tensor: tf.TensorProto, spec: TensorSpec) -> Array:
    dtype, field = DTYPES[spec.dtype], FIELDS[spec.dtype]
    if field == "string_val":
        return _objects(list(tensor.string_val))
    values = np.array(getattr(tensor, field))
    if values.dtype == dtype.numpy:
        return values
    narrow: np.dtype[Any] = np.dtype(np.uint16) if field == "half_val" else dtype.numpy
    limits = np.iinfo(narrow)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise out_of_range(dtype, spec.name)
    return values.astype(narrow).view(dtype.numpy)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _filled(values: Array, spec: TensorSpec, shape: Shape) -> Array:
    count, dtype = len_of(shape), DTYPES[spec.dtype].numpy
    if len(values) > count:
        raise Invalid(f"Input {spec.name!r} of shape {list(shape)} requires {count} elements, got {len(values)}.")
    rest: Any = values[-1] if len(values) else (b"" if spec.dtype == "string" else 0)
    if count * (STRING_BYTES + len(rest) if isinstance(rest, bytes) else dtype.itemsize) > FILLED_BYTES:
        raise Invalid(
            f"Input {spec.name!r} of shape {list(shape)} requires {count} elements, got {len(values)} in"
            f" {FIELDS[spec.dtype]}. The last one is only repeated to fill arrays of up to {FILLED_BYTES} bytes."
        )
    array = np.full(count, rest, dtype)
    array[: len(values)] = values
    return array


def _wrong_type(tensor: tf.TensorProto, spec: TensorSpec) -> Invalid:
    given = tf.DataType.Name(tensor.dtype) if tensor.dtype in tf.DataType.values() else str(tensor.dtype)
    return Invalid(f"Input {spec.name!r} is {DTYPES[spec.dtype].v1} in the model, got {given}.")
