"""Tensors as JSON in version 2: values are flat and row-major, or nested as the shape says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from tfserve import tensor_json
from tfserve.errors import Invalid
from tfserve.json_numbers import Numbers
from tfserve.tensors import DTYPES, Array, Shape, TensorSpec, cast, check_shape

BINARY_ONLY = ("float16", "bfloat16")
"""Their numbers in JSON would be those of another type, so the protocol has none."""


def read(value: Any, spec: TensorSpec, shape: Shape, name: str) -> Array:
    """The array of `shape` for a decoded value. Raises `Invalid`, which names the input."""
    if spec.dtype in BINARY_ONLY:
        raise Invalid(
            f"Input {name!r} is {DTYPES[spec.dtype].v2}, which has no numbers in JSON: send it as binary data"
            " (parameters.binary_data_size, and its bytes behind the JSON)."
        )
    if value.__class__ is Numbers:
        array: Array | None = value.read(spec.dtype)
        if array is not None and (array.shape == shape or (array.ndim == 1 and array.size == math.prod(shape))):
            return array.reshape(shape)
        if value.shape is not None and value.shape != shape and value.shape != (math.prod(value.shape),):
            check_shape(value.shape, TensorSpec(name, spec.dtype, shape), name)
        value = tensor_json.explained(value, TensorSpec(name, spec.dtype, shape), name)
    if value.__class__ is not list or (value and value[0].__class__ is list):
        return cast(value, TensorSpec(name, spec.dtype, shape), name)
    if len(value) != (count := math.prod(shape)):
        raise Invalid(f"Input {name!r} of shape {list(shape)} has {count} elements; {len(value)} were given.")
    return cast(value, TensorSpec(name, spec.dtype, (count,)), name).reshape(shape)


def write(array: Array, name: str) -> Any:
    """The values, flat and row-major, as orjson takes them; it writes null for NaN and infinities.

    Raises `Invalid`, which names the output, for bytes that are no text.
    """
    flat = array.ravel()
    if flat.dtype == object:
        return [_text(value, name) for value in flat.tolist()]
    if flat.size > tensor_json.WRITTEN_AT_ONCE and np.isfinite(flat).all():
        return orjson.Fragment(tensor_json.from_array(flat))
    return flat


def check_finite(array: Array, name: str) -> None:
    """Raises `Invalid`, which names the output."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Invalid(
            f"Output {name!r} has values that JSON can't hold (NaN or infinities). Ask for it as binary data"
            ' (its parameters: {"binary_data": true}), or send the request parameter "non_finite": "null" or "literal".'
        )


def literal(array: Array) -> Any:
    """The values with the bare words NaN, Infinity and -Infinity, which many parsers read, but JSON does not have."""
    return orjson.Fragment(tensor_json.from_array(array.ravel(), tokens=True))


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(
            f"Output {name!r} has bytes that are no text in UTF-8, so JSON can't hold them: ask for it as binary data"
            ' (its parameters: {"binary_data": true}).'
        ) from None
