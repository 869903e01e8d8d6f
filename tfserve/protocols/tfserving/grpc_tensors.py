"""TensorProto and arrays.

`tensor_content` is the elements as they lie in memory; strings are there as all their lengths (varints), and then all
their bytes. Else the elements are in the list of their type, where fewer than the shape has will do: the last one
stands for the rest, and none at all for zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc.predictions import len_of
from tfserve.protocols.protos import packed
from tfserve.protocols.protos import tensorflow_pb2 as tf
from tfserve.protocols.tfserving.describing import DATA_TYPES
from tfserve.serving import inputs
from tfserve.tensors import DTYPES, Array, Shape, TensorSpec


@dataclass(frozen=True, slots=True)
class Element:
    """One type of element: its DataType and the list that it is in in TensorProto, and how it lies in memory."""

    dtype: str
    field: str
    numpy: np.dtype[Any]


_FIELDS = {
    "bool": "bool_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "int64": "int64_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "string": "string_val",
}  # and the smaller integers in int_val
FILLED_BYTES = 4 * 1024 * 1024
"""The largest array for which one value of a message may stand for many."""

STRING_BYTES = 64
"""What a short string takes as an object."""

_AS_IN_MEMORY = ("bool_val", "float_val", "double_val")

ELEMENTS = {
    name: Element(DATA_TYPES[name], _FIELDS.get(name, "int_val"), dtype.numpy) for name, dtype in DTYPES.items()
}
_BY_NUMPY = {element.numpy: element for element in ELEMENTS.values()}


def to_array(tensor: tf.TensorProto, spec: TensorSpec) -> Array:
    """The array of an input. Raises `Invalid`. Values that stand for many make no array beyond `FILLED_BYTES`."""
    element = ELEMENTS.get(spec.dtype)
    if element is None or tensor.dtype != tf.DataType.Value(element.dtype):
        raise _wrong_type(tensor, spec)
    shape = _shape(tensor, spec)
    inputs.require_shape(shape, spec)
    if tensor.tensor_content:
        return _content(tensor, spec, element, len_of(shape)).reshape(shape)
    values = _values(tensor, spec, element)
    if len(values) != len_of(shape):
        values = _filled(values, spec, shape, element)
    return values.reshape(shape)


def to_proto(array: Array) -> tf.TensorProto:
    """The message of an output, with its elements in the list of their type: clients read them there directly."""
    element = _BY_NUMPY[array.dtype]
    proto = tf.TensorProto(dtype=element.dtype)
    proto.tensor_shape.SetInParent()  # a scalar has a shape too, of no dimensions
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if element.field in _AS_IN_MEMORY:
        if array.size:
            packed.write(proto, element.field, array.tobytes())
    else:
        plain = array.view(np.uint16) if element.field == "half_val" else array
        getattr(proto, element.field).extend(plain.ravel().tolist())
    return proto


def _shape(tensor: tf.TensorProto, spec: TensorSpec) -> Shape:
    if tensor.tensor_shape.unknown_rank:
        raise Invalid(f"Input {spec.name!r} was given a tensor_shape of unknown rank. Give its sizes.")
    return tuple([dim.size for dim in tensor.tensor_shape.dim])


def _content(tensor: tf.TensorProto, spec: TensorSpec, element: Element, count: int) -> Array:
    content = tensor.tensor_content
    if element.field == "string_val":
        return _strings_of(content, spec, count)
    size = element.numpy.itemsize
    if len(content) != count * size:
        raise Invalid(
            f"Input {spec.name!r} takes {count * size} bytes of tensor_content for {count} elements of {spec.dtype};"
            f" {len(content)} were given."
        )
    if element.field == "bool_val":
        inputs.require_bools(content, spec.name)
    return np.frombuffer(content, element.numpy)


def _strings_of(content: bytes, spec: TensorSpec, count: int) -> Array:
    """All lengths first, as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < count:
        length = shift = 0
        while True:
            if at >= len(content) or shift > 35:
                raise Invalid(f"Input {spec.name!r} has {count} strings, but tensor_content ends within their lengths.")
            byte = content[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise Invalid(
            f"Input {spec.name!r} announces strings of {sum(lengths)} bytes in all in tensor_content;"
            f" {len(content) - at} were given."
        )
    ends = np.cumsum([at, *lengths]).tolist()
    return _objects([content[start:end] for start, end in itertools.pairwise(ends)])


def _values(tensor: tf.TensorProto, spec: TensorSpec, element: Element) -> Array:
    if element.field in _AS_IN_MEMORY:
        return np.frombuffer(packed.read(tensor, element.field), element.numpy)
    values = getattr(tensor, element.field)
    if element.field == "string_val":
        return _objects(list(values))
    if element.field == "half_val":
        return _integers(values, spec, np.dtype(np.uint16)).view(element.numpy)
    return _integers(values, spec, element.numpy)


def _integers(values: Sequence[int], spec: TensorSpec, dtype: np.dtype[Any]) -> Array:
    array, limits = packed.integers(values, dtype), np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise Invalid(
            f"Input {spec.name!r} is {spec.dtype}, whose elements are {limits.min} to {limits.max} here;"
            f" the values given are from {array.min()} to {array.max()}."
        )
    return array.astype(dtype, copy=False)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _filled(values: Array, spec: TensorSpec, shape: Shape, element: Element) -> Array:
    count = len_of(shape)
    if len(values) > count:
        raise Invalid(
            f"Input {spec.name!r} of shape {list(shape)} has {count} elements; {len(values)} were given in"
            f" {element.field}."
        )
    rest: Any = values[-1] if len(values) else (b"" if element.field == "string_val" else 0)
    if count * (STRING_BYTES + len(rest) if isinstance(rest, bytes) else element.numpy.itemsize) > FILLED_BYTES:
        raise Invalid(
            f"Input {spec.name!r} of shape {list(shape)} has {count} elements, but {len(values)} were given in"
            f" {element.field}. The last one may stand for the rest of an array of {FILLED_BYTES} bytes at most."
        )
    array = np.full(count, rest, element.numpy)
    array[: len(values)] = values
    return array


def _wrong_type(tensor: tf.TensorProto, spec: TensorSpec) -> Invalid:
    given = tf.DataType.Name(tensor.dtype) if tensor.dtype in tf.DataType.values() else str(tensor.dtype)
    if spec.dtype not in ELEMENTS:
        return Invalid(f"Input {spec.name!r} is {spec.dtype}, a type that this server does not take.")
    return Invalid(f"Input {spec.name!r} is {DATA_TYPES[spec.dtype]} in the model; {given} was given.")
