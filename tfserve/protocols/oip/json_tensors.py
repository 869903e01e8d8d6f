"""Tensors as JSON: values in, values out, by the one casting rule of `tfserve.tensors`.

Values are flat and row-major, or nested as the shape says.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import ml_dtypes
import msgspec
import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors import DTYPES, Array, Shape, TensorSpec, cast

#: the largest number that is still rounded to a float32, and not to infinity
MAX_FLOAT32 = 3.4028235677973362e38

#: so few elements are quicker to look at in Python
FEW = 64

_SMALL_INTS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "bool": msgspec.json.Decoder(list[bool]),
    "float32": msgspec.json.Decoder(list[float]),
    "float64": msgspec.json.Decoder(list[float]),
    "string": msgspec.json.Decoder(list[str]),
    "int64": msgspec.json.Decoder(list[int]),
    "uint64": msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]]),
}
for _name in _SMALL_INTS:
    _limits = msgspec.Meta(ge=int(np.iinfo(_name).min), le=int(np.iinfo(_name).max))
    _FLAT[_name] = msgspec.json.Decoder(list[Annotated[int, _limits]])
_NUMPY = {name: dtype.numpy for name, dtype in DTYPES.items() if name != "bfloat16"} | {
    "bfloat16": np.dtype(ml_dtypes.bfloat16)
}


def read(text: bytes, spec: TensorSpec, shape: Shape, name: str) -> Array:
    """The array of `shape` for the JSON `text`. Raises `Invalid`, which names the input."""
    if spec.dtype not in _FLAT:
        raise Invalid(
            f"Input {name!r} is {DTYPES[spec.dtype].v2}, which has no numbers in JSON: send it as binary data"
            " (parameters.binary_data_size, and its bytes behind the JSON)."
        )
    if text.find(b"[", 1) < 0:
        flat = _flat(text, spec)
        if flat is not None:
            if len(flat) != math.prod(shape):
                raise wrong_count(name, shape, len(flat))
            return flat.reshape(shape)
    return _as_shaped(text, spec, shape, name)


def wrong_count(name: str, shape: Shape, given: int) -> Invalid:
    return Invalid(f"Input {name!r} of shape {list(shape)} has {math.prod(shape)} elements; {given} were given.")


def _flat(text: bytes, spec: TensorSpec) -> Array | None:
    """The values of a plain list; None when it is something else, or wrong."""
    try:
        values = _FLAT[spec.dtype].decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None  # the slower way tells what is wrong with it
    if spec.dtype == "float32" and values and not -MAX_FLOAT32 < min(values) <= max(values) < MAX_FLOAT32:
        return None
    if spec.dtype == "string":
        array = np.empty(len(values), dtype=object)
        array[:] = [value.encode() for value in values]
        return array
    try:
        return np.array(values, _NUMPY[spec.dtype])
    except OverflowError:
        return None


def _as_shaped(text: bytes, spec: TensorSpec, shape: Shape, name: str) -> Array:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"Input {name!r} has no JSON values: {error}") from None
    flat = isinstance(value, list) and not (value and isinstance(value[0], list))
    if flat and len(shape) != 1 and len(value) != math.prod(shape):
        raise wrong_count(name, shape, len(value))
    want = (len(value),) if flat else shape
    array = cast(value, TensorSpec(spec.name, spec.dtype, want), name)
    if array.size != math.prod(shape):
        raise wrong_count(name, shape, array.size)
    return array.reshape(shape)


def narrow(wide: Array, spec: TensorSpec, shape: Shape, name: str) -> Array:
    """The array of `shape` for flat numbers of the widest type. Raises `Invalid` for one that does not fit."""
    if len(wide) != math.prod(shape):
        raise wrong_count(name, shape, len(wide))
    dtype = _NUMPY[spec.dtype]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = wide.astype(dtype, copy=False)
        fits = bool(np.isfinite(array).all())
    else:
        limits = np.iinfo(dtype)
        fits = not wide.size or bool(wide.min() >= limits.min and wide.max() <= limits.max)
        array = wide.astype(dtype, copy=False)
    if not fits:
        raise Invalid(f"Input {name!r} takes {spec}; a number was given that {spec.dtype} can't hold.")
    return array.reshape(shape)


def write(array: Array, name: str, non_finite: str) -> Any:
    """The values, flat and row-major, as orjson takes them. Raises `Invalid`, which names the output.

    `non_finite` says what becomes of NaN and infinities: an `error`, `null`, or the bare words that Python writes and
    reads (`literal`).
    """
    flat = array.ravel()
    if flat.dtype.kind == "O":
        return [_text(value, name) for value in flat.tolist()]
    if not flat.flags.aligned:  # a view into a message; orjson wants to read whole numbers
        flat = flat.copy()
    if flat.dtype.kind == "f" and not _is_finite(flat):
        return _non_finite(flat, name, non_finite)
    return flat


def _is_finite(flat: Array) -> bool:
    """A few numbers are added up quicker than numpy begins to look at them."""
    if flat.size <= FEW and math.isfinite(sum(flat.tolist())):
        return True
    return bool(np.isfinite(flat).all())


def _non_finite(flat: Array, name: str, policy: str) -> Any:
    if policy == "null":
        return flat  # orjson writes null for them
    if policy == "literal":
        return orjson.Fragment(json.dumps(flat.tolist()))
    raise Invalid(
        f"Output {name!r} has values that JSON can't hold (NaN or infinities). Ask for it as binary data"
        ' (its parameters: {"binary_data": true}), or send the request parameter "non_finite": "null" or "literal".'
    )


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(
            f"Output {name!r} has bytes that are no text in UTF-8, so JSON can't hold them: ask for it as binary data"
            ' (its parameters: {"binary_data": true}).'
        ) from None
