"""The extension for binary tensor data: bytes behind the JSON, in the order of the inputs, and no padding.

Elements are little-endian and row-major; a BOOL is one byte, 0 or 1; a BYTES element is its length in 4 bytes, and
itself.
"""

from __future__ import annotations

import math

import numpy as np

from tfserve.errors import Invalid
from tfserve.ipc import predictions
from tfserve.serving import inputs
from tfserve.tensors import DTYPES, Array, Shape, TensorSpec

LENGTH_HEADER = b"inference-header-content-length"
MAX_LENGTH = 2**31


def length_of_json(header: bytes, body_bytes: int) -> int:
    """What the header says of a body of `body_bytes`. Raises `Invalid`."""
    text = header.strip()
    if not text.isdigit() or len(text) > len(str(MAX_LENGTH)) or int(text) > min(body_bytes, MAX_LENGTH):
        raise Invalid(
            "Inference-Header-Content-Length must be the length of the JSON in bytes, a whole number from 0 to the"
            f" {body_bytes} bytes of the (unpacked) body; {text[:40].decode('latin-1')!r} was given."
        )
    return int(text)


def read(data: memoryview, spec: TensorSpec, shape: Shape, name: str) -> Array:
    """The array in `data`, without copying numbers. Raises `Invalid`, which names the input."""
    count = math.prod(shape)
    if spec.dtype == "string":
        return _strings(data, count, shape, name)
    dtype = DTYPES[spec.dtype].numpy
    if len(data) != count * dtype.itemsize:
        raise Invalid(
            f"Input {name!r} of datatype {DTYPES[spec.dtype].v2} and shape {list(shape)} needs"
            f" {count * dtype.itemsize} bytes ({count} elements of {dtype.itemsize}); {len(data)} were given."
        )
    if spec.dtype == "bool":
        inputs.require_bools(data, name)
    return np.frombuffer(data, dtype).reshape(shape)


def read_whole_body(body: bytes, spec: TensorSpec) -> Array:
    """A body that is nothing but the one input's data; its one open size follows from the length. Raises `Invalid`."""
    shape = spec.shape
    if spec.dtype == "string":
        if shape is None or any(size not in (1, -1) for size in shape):
            raise Invalid(f"A raw body is one element of BYTES, but input {spec.name!r} takes {spec}. {SEND_JSON}")
        text = np.empty((1,) * len(shape), dtype=object)
        text.fill(body)
        return text
    if shape is None or shape.count(-1) > 1:
        raise Invalid(f"A raw body leaves the shape open: input {spec.name!r} takes {spec}. {SEND_JSON}")
    row_bytes = DTYPES[spec.dtype].numpy.itemsize * math.prod(size for size in shape if size != -1)
    rows, rest = divmod(len(body), row_bytes) if row_bytes else (0, len(body))
    if rest and -1 in shape:
        raise Invalid(f"Input {spec.name!r} takes {spec}, so a multiple of {row_bytes} bytes; {len(body)} were given.")
    return read(memoryview(body), spec, tuple(rows if size == -1 else size for size in shape), spec.name)


SEND_JSON = "Send the shape in JSON, with its length in Inference-Header-Content-Length."


def write(array: Array) -> memoryview:
    """The bytes of an array; shared with it where they can be."""
    data = predictions.to_tensor(array).data
    return data.cast("B") if data.nbytes else memoryview(b"")


def _strings(data: memoryview, count: int, shape: Shape, name: str) -> Array:
    try:
        values = predictions.split_strings(data)
    except ValueError as error:
        raise Invalid(
            f"Input {name!r} is not BYTES, each its length (4 bytes, little-endian) and itself: {error}."
        ) from None
    if len(values) != count:
        raise Invalid(f"Input {name!r} of shape {list(shape)} needs {count} elements, {len(values)} were given.")
    array = np.empty(count, dtype=object)
    array[:] = values
    return array.reshape(shape)
