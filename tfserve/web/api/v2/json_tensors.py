"""Tensors as JSON in version 2: values are flat in row-major order, or nested according to the shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors import tensor_json
from tfserve.tensors.casting import cast
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.json_numbers import Numbers
from tfserve.tensors.specs import Array, Shape, TensorSpec, check_shape
from tfserve.web.api.v2 import raw_tensors

BINARY_ONLY = ("float16", "bfloat16")
"""Types for which the protocol has no JSON representation."""


def read(value: Any, spec: TensorSpec, shape: Shape) -> Array:
    """The array of `shape` for a decoded value. Raises `Invalid` with the name of the input."""
    name = spec.name
    if spec.dtype in BINARY_ONLY:
        raise Invalid(
            f"Input {name!r} is {DTYPES[spec.dtype].v2}, which JSON cannot represent. Send it as binary data"
            " (parameters.binary_data_size, and its bytes after the JSON)."
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
    raw_tensors.require_count(len(value), spec, shape)
    return cast(value, TensorSpec(name, spec.dtype, (len(value),)), name).reshape(shape)


def write(array: Array, name: str) -> Any:
    """The values, flat in row-major order, for orjson, which writes null for NaN and infinities.

    Raises `Invalid` with the name of the output for bytes that are not text.
    """
    flat = array.ravel()
    if flat.dtype == object:
        return [_text(value, name) for value in flat.tolist()]
    if flat.size > tensor_json.WRITTEN_AT_ONCE and np.isfinite(flat).all():
        return orjson.Fragment(tensor_json.from_array(flat))
    return flat


def check_finite(array: Array, name: str) -> None:
    """Raises `Invalid` with the name of the output."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Invalid(
            f"Output {name!r} contains NaN or infinity, which JSON cannot represent. Request it as binary data"
            ' (its parameters: {"binary_data": true}), or send the request parameter "non_finite": "null" or "literal".'
        )


def literal(array: Array) -> Any:
    """The values with the bare words NaN, Infinity and -Infinity: not valid JSON, but accepted by many parsers."""
    return orjson.Fragment(tensor_json.from_array(array.ravel(), tokens=True))


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(
            f"Output {name!r} contains bytes that are not UTF-8, which JSON cannot represent. Request it as binary data"
            ' (its parameters: {"binary_data": true}).'
        ) from None
