"""Tensor specs, signatures, type names, and the rule for casting JSON values.

    value in JSON            may become
    true, false              bool
    a whole number           any integer type that it fits into, exactly; any float type
    a number                 any float type that it fits into
    text, {"b64": "…"}       string
    lists of these           a tensor with one more dimension; all of equal length

There are no other casts: 1.0, "3" and true are not integers, and null is never valid. NaN and infinities are floats if
the JSON parser accepts them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import chain
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray

from tfserve.errors import Invalid

Shape = tuple[int, ...]
Array = NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"

MAX_RANK = 32


class DType(msgspec.Struct, frozen=True):
    """An element type with its three names. `name` is TensorFlow's, which is also numpy's except for strings."""

    name: str
    kind: str
    v2: str

    @property
    def numpy(self) -> np.dtype[Any]:
        """The corresponding numpy type."""
        return _NUMPY[self.name]


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DType("bool", "bool", "BOOL"),
        DType("uint8", "int", "UINT8"),
        DType("uint16", "int", "UINT16"),
        DType("uint32", "int", "UINT32"),
        DType("uint64", "int", "UINT64"),
        DType("int8", "int", "INT8"),
        DType("int16", "int", "INT16"),
        DType("int32", "int", "INT32"),
        DType("int64", "int", "INT64"),
        DType("float16", "float", "FP16"),
        DType("bfloat16", "float", "BF16"),
        DType("float32", "float", "FP32"),
        DType("float64", "float", "FP64"),
        DType("string", "string", "BYTES"),
    )
}

_NUMPY: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in DTYPES if name not in ("string", "bfloat16")},
    "string": np.dtype(object),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

#: The names of numpy's types, cached because `dtype.name` takes a microsecond.
NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in _NUMPY.items()}

BFLOAT16 = _NUMPY["bfloat16"]

_LEAVES: dict[str, tuple[frozenset[type], str]] = {
    "bool": (frozenset({bool}), "true or false"),
    "int": (frozenset({int}), "whole numbers"),
    "float": (frozenset({int, float}), "numbers"),
}

FEW = 256


def _range(dtype: DType) -> tuple[Any, Any]:
    if dtype.kind == "float":
        return -float(np.finfo(dtype.name).max), float(np.finfo(dtype.name).max)
    if dtype.kind == "int":
        return int(np.iinfo(dtype.name).min), int(np.iinfo(dtype.name).max)
    return False, True


#: For `_cast_few`: numpy's type, the types of the leaves, and their range.
_FEW: dict[str, tuple[np.dtype[Any], frozenset[type], Any, Any]] = {
    name: (dtype.numpy, _LEAVES[dtype.kind][0], *_range(dtype))
    for name, dtype in DTYPES.items()
    if name not in ("string", "bfloat16")
}

_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction or exponent",
    str: "text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Quantization(msgspec.Struct, frozen=True, omit_defaults=True):
    """Quantization parameters: the integers of a quantized tensor mean `scale` * (integer - `zero_point`).

    One value for the whole tensor, or one for each position along `axis`.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    axis: int | None = None

    def real(self, array: Array) -> Array:
        """The values, as float32."""
        scale, zero_point = self._along(array.ndim)
        return ((array.astype(np.float32) - zero_point) * scale).astype(np.float32, copy=False)

    def quantized(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """The nearest integers in the range of `dtype`."""
        scale, zero_point = self._along(values.ndim)
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values / scale + zero_point), limits.min, limits.max).astype(dtype)

    def _along(self, rank: int) -> tuple[Array, Array]:
        scale, zero_point = np.asarray(self.scale, np.float32), np.asarray(self.zero_point, np.float32)
        if self.axis is None or not scale.ndim:
            return scale, zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return scale.reshape(shape), zero_point.reshape(shape)


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Type and shape of a tensor. A size of -1 is any size, a shape of None any rank.

    `quantization` has the parameters of a quantized model; callers send and receive the integers.
    `part` names a component of a ragged or sparse tensor, such as "row_splits of 'ids'"; otherwise it is empty.
    """

    name: str
    dtype: str
    shape: Shape | None
    quantization: Quantization | None = None
    part: str = ""

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension is variable and counts examples. In a component (`part`) it counts values."""
        return bool(self.shape) and self.shape is not None and self.shape[0] == -1 and not self.part

    def accepts(self, shape: Shape) -> bool:
        wanted = self.shape
        if wanted is None or wanted == shape:
            return True
        if len(wanted) != len(shape):
            return False
        for want, given in zip(wanted, shape, strict=True):  # noqa: SIM110 - a generator takes twice as long
            if want not in (-1, given):
                return False
        return True

    def __str__(self) -> str:
        part = f" ({self.part})" if self.part else ""
        return f"{self.dtype} of {'any shape' if self.shape is None else f'shape {list(self.shape)}'}{part}"


class Ragged(Invalid):
    """Lists at the same depth have different lengths."""


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """The inputs and outputs of one function of a model.

    `method` is `classify` or `regress` if the model takes serialized tf.Example, and empty for plain tensors.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method: str = ""


def cast(value: Any, spec: TensorSpec, name: str) -> Array:
    """Converts a caller's JSON value for input `name` to an array of `spec.dtype`. Raises `Invalid`."""
    quick = _cast_few(value, spec)
    if quick is not None:
        return quick
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise Invalid(f"Input {name!r} takes {spec}, a type that JSON cannot represent.")
    shape = _shape_at_first_glance(value)
    check_shape(shape, spec, name)
    leaves = _leaves(value, shape, name)
    if dtype.kind == "string":
        return _strings(leaves, shape, spec, name)
    _check_leaves(leaves, dtype, spec, name)
    return _numbers(value, dtype, spec, name)


def check_shape(shape: Shape, spec: TensorSpec, name: str) -> None:
    """Raises `Invalid` if a value of this shape does not match the `spec` of input `name`."""
    if not spec.accepts(shape):
        raise Invalid(f"Input {name!r} takes {spec}, got shape {list(shape)}.{_batch_hint(shape, spec)}")


def _cast_few(value: Any, spec: TensorSpec) -> Array | None:
    """The array for a short, regular list of numbers in range; None in all other cases. Takes 2 µs for four floats."""
    rule = _FEW.get(spec.dtype)
    if rule is None:
        return None
    dtype, allowed, lowest, highest = rule
    leaves = value
    try:
        while leaves[0].__class__ is list:
            leaves = [*chain.from_iterable(leaves)]
        if len(leaves) > FEW or not {*map(type, leaves)} <= allowed:
            return None
        if not (lowest <= min(leaves) and max(leaves) <= highest):
            return None
        array = np.array(value, dtype)
    except (TypeError, IndexError, KeyError, ValueError):  # not a list, or empty, or ragged
        return None
    return array if array.ndim <= MAX_RANK and spec.accepts(array.shape) else None


def _shape_at_first_glance(value: Any) -> Shape:
    """The shape of the value, assuming that its lists are as long as the first one at each depth."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _batch_hint(shape: Shape, spec: TensorSpec) -> str:
    if spec.is_batched and spec.accepts((1, *shape)):
        return " Its first dimension counts examples: wrap a single example in [ ]."
    return ""


def _leaves(value: Any, shape: Shape, name: str) -> list[Any]:
    """All elements in order. Raises `Invalid` if a list does not have the length given by the shape.

    All in C, so a list of a million numbers takes milliseconds.
    """
    if len(shape) > MAX_RANK:
        raise Invalid(f"Input {name!r} has {len(shape)} dimensions; the maximum is {MAX_RANK}.")
    level: list[Any] = [value]
    for depth, size in enumerate(shape):
        if set(map(type, level)) != {list}:
            raise _ragged(name, shape, f"there is a value that is not a list at depth {depth}")
        lengths = set(map(len, level))
        if lengths != {size}:
            raise _ragged(name, shape, f"the lists at depth {depth} have lengths {sorted(lengths)[:5]}")
        level = list(chain.from_iterable(level))
    return level


def _ragged(name: str, shape: Shape, cause: str) -> Ragged:
    return Ragged(
        f"Input {name!r} is ragged: its first elements give shape {list(shape)}, but {cause}."
        " Lists at the same depth must have equal length."
    )


def _check_leaves(leaves: Sequence[Any], dtype: DType, spec: TensorSpec, name: str) -> None:
    allowed, words = _LEAVES[dtype.kind]
    strangers = set(map(type, leaves)) - allowed
    if list in strangers:
        raise Ragged(f"Input {name!r} is ragged: some of its elements are lists and others are not.")
    if strangers:
        given = " and ".join(sorted(_JSON_NAMES.get(each, each.__name__) for each in strangers))
        raise Invalid(f"Input {name!r} takes {spec}: expected {words}, got {given}.")


def _numbers(value: Any, dtype: DType, spec: TensorSpec, name: str) -> Array:
    try:
        if dtype.kind != "float":
            return np.asarray(value, dtype=dtype.numpy)
        wide = np.asarray(value, dtype=np.float64)
        with np.errstate(over="ignore"):
            array = wide.astype(dtype.numpy, copy=False)
        if not np.isfinite(array).all() and (np.isfinite(array) != np.isfinite(wide)).any():
            raise OverflowError
    except OverflowError:
        raise Invalid(f"Input {name!r} takes {spec}, got a number out of range for {dtype.name}.") from None
    return array


def _strings(leaves: Sequence[Any], shape: Shape, spec: TensorSpec, name: str) -> Array:
    array = np.empty(len(leaves), dtype=object)
    array[:] = [_octets(leaf, spec, name) for leaf in leaves]
    return array.reshape(shape)


def _octets(leaf: Any, spec: TensorSpec, name: str) -> bytes:
    if isinstance(leaf, str):
        return encode_text(leaf, f"Input {name!r}")
    if isinstance(leaf, dict) and leaf.keys() == {"b64"} and isinstance(leaf["b64"], str):
        return decode_b64(leaf["b64"], f"Input {name!r}")
    given = _JSON_NAMES.get(type(leaf), type(leaf).__name__)
    raise Invalid(f'Input {name!r} takes {spec}: expected text or {{"b64": "…"}}, got {given}.')


def encode_text(text: str, owner: str) -> bytes:
    """A string of `owner` as UTF-8. Raises `Invalid` for an unpaired surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{owner} contains text with an unpaired surrogate, which is not valid Unicode.") from None


def decode_b64(text: str, owner: str) -> bytes:
    """The decoded bytes of a base64 value of `owner`. Raises `Invalid`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is a ValueError; non-ASCII characters raise one, too
        raise Invalid(f"{owner} has a b64 value that is not valid base64: {str(error).rstrip('.')}.") from None
