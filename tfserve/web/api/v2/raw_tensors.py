"""Tensors as raw bytes: after the JSON in REST, and in `raw_input_contents` and `raw_output_contents` in gRPC.

Elements are little-endian and row-major, without padding. A BOOL is one byte, 0 or 1. A BYTES element is its length in
4 bytes, followed by its bytes. BF16 is the upper half of a float32.
"""

from __future__ import annotations

import math

import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc import predictions
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, TensorSpec
from tfserve.web.predictions import signature_checks

SEND_JSON = "Send the shape as JSON, and the length of the JSON in Inference-Header-Content-Length."


def read(data: memoryview | bytes, spec: TensorSpec, shape: Shape) -> Array:
    """The array in `data`, without copying numbers. Raises `Invalid` with the name of the input."""
    if spec.dtype == "string":
        return _strings(data, spec, shape)
    count = math.prod(shape)
    dtype = DTYPES[spec.dtype].numpy
    if len(data) != count * dtype.itemsize:
        raise Invalid(
            f"Input {spec.name!r} of datatype {DTYPES[spec.dtype].v2} and shape {list(shape)} requires"
            f" {count * dtype.itemsize} bytes ({count} elements of {dtype.itemsize}), got {len(data)}."
        )
    if spec.dtype == "bool":
        signature_checks.require_bools(data, spec.name)
    return np.frombuffer(data, dtype).reshape(shape)


def read_whole_body(body: bytes, spec: TensorSpec) -> Array:
    """A body with only the data of the single input. Its length gives the one variable size. Raises `Invalid`."""
    shape = spec.shape
    if spec.dtype == "string":
        if shape is None or any(size not in (1, -1) for size in shape):
            raise Invalid(f"A raw body is a single BYTES element, but input {spec.name!r} takes {spec}. {SEND_JSON}")
        text = np.empty((1,) * len(shape), dtype=object)
        text.fill(body)
        return text
    if shape is None or shape.count(-1) > 1:
        raise Invalid(f"The shape of a raw body is ambiguous: input {spec.name!r} takes {spec}. {SEND_JSON}")
    row_bytes = DTYPES[spec.dtype].numpy.itemsize * math.prod(size for size in shape if size != -1)
    rows, rest = divmod(len(body), row_bytes) if row_bytes else (0, len(body))
    if rest and -1 in shape:
        raise Invalid(f"Input {spec.name!r} takes {spec}: expected a multiple of {row_bytes} bytes, got {len(body)}.")
    return read(body, spec, tuple(rows if size == -1 else size for size in shape))


def write(array: Array) -> memoryview:
    """The bytes of an array, without copying if possible."""
    data = predictions.to_tensor(array).data
    return data.cast("B") if data.nbytes else memoryview(b"")


def require_count(given: int, spec: TensorSpec, shape: Shape) -> None:
    """Raises `Invalid` if an input does not have as many elements as its shape says."""
    if given != (count := math.prod(shape)):
        raise Invalid(f"Input {spec.name!r} of shape {list(shape)} requires {count} elements, got {given}.")


def strings(values: list[bytes]) -> Array:
    """A string tensor with one dimension."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _strings(data: memoryview | bytes, spec: TensorSpec, shape: Shape) -> Array:
    try:
        values = predictions.split_strings(data)
    except ValueError as error:
        raise Invalid(
            f"Input {spec.name!r} is not valid BYTES data (per element: length in 4 bytes, then bytes): {error}."
        ) from None
    require_count(len(values), spec, shape)
    return strings(values).reshape(shape)
