"""The binary tensor data extension: raw bytes after the JSON, in the order of the inputs, without padding.

Elements are little-endian and row-major. A BOOL is one byte, 0 or 1. A BYTES element is its length in 4 bytes,
followed by its bytes.
"""

from __future__ import annotations

import math

import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc import predictions
from tfserve.tensors.specs import DTYPES, Array, Shape, TensorSpec
from tfserve.web.predictions import signature_checks

LENGTH_HEADER = b"inference-header-content-length"
MAX_LENGTH = 2**31


def length_of_json(header: bytes, body_bytes: int) -> int:
    """The JSON length from the header, for a body of `body_bytes`. Raises `Invalid`."""
    text = header.strip()
    if not text.isdigit() or len(text) > len(str(MAX_LENGTH)) or int(text) > min(body_bytes, MAX_LENGTH):
        raise Invalid(
            "Inference-Header-Content-Length must be the length of the JSON in bytes, an integer from 0 to the length"
            f" of the (decompressed) body, {body_bytes}; got {text[:40].decode('latin-1')!r}."
        )
    return int(text)


def read(data: memoryview, spec: TensorSpec, shape: Shape, name: str) -> Array:
    """The array in `data`, without copying numbers. Raises `Invalid` with the name of the input."""
    count = math.prod(shape)
    if spec.dtype == "string":
        return _strings(data, count, shape, name)
    dtype = DTYPES[spec.dtype].numpy
    if len(data) != count * dtype.itemsize:
        raise Invalid(
            f"Input {name!r} of datatype {DTYPES[spec.dtype].v2} and shape {list(shape)} requires"
            f" {count * dtype.itemsize} bytes ({count} elements of {dtype.itemsize}), got {len(data)}."
        )
    if spec.dtype == "bool":
        signature_checks.require_bools(data, name)
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
    return read(memoryview(body), spec, tuple(rows if size == -1 else size for size in shape), spec.name)


SEND_JSON = "Send the shape as JSON, and the length of the JSON in Inference-Header-Content-Length."


def write(array: Array) -> memoryview:
    """The bytes of an array, without copying if possible."""
    data = predictions.to_tensor(array).data
    return data.cast("B") if data.nbytes else memoryview(b"")


def _strings(data: memoryview, count: int, shape: Shape, name: str) -> Array:
    try:
        values = predictions.split_strings(data)
    except ValueError as error:
        raise Invalid(
            f"Input {name!r} is not valid BYTES data (per element: 4-byte little-endian length, then bytes): {error}."
        ) from None
    if len(values) != count:
        raise Invalid(f"Input {name!r} of shape {list(shape)} requires {count} elements, got {len(values)}.")
    array = np.empty(count, dtype=object)
    array[:] = values
    return array.reshape(shape)
