"""Tensors as everybody here speaks of them: specs, signatures, the names of their types, and the one casting rule.

    value in JSON            may become
    true, false              bool
    a whole number           any integer type that it fits into, exactly; any float type
    a number                 any float type that it fits into
    text, {"b64": "…"}       string
    lists of these           a tensor with one more dimension; all of one length

Nothing else is cast: not 1.0 or "3" or true to an integer, and null to nothing. NaN and infinities are floats, where
the parser that read the JSON lets them through.
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
    """One type of element under its three names. `name` is TensorFlow's own, and numpy's but for strings."""

    name: str
    kind: str
    v2: str

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds it."""
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

#: The names of numpy's types: reading `dtype.name` takes numpy a whole microsecond.
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
    """What the integers of a quantized tensor stand for: `scale` * (integer - `zero_point`).

    One number for the whole tensor, or one for each position along `axis`.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    axis: int | None = None

    def real(self, array: Array) -> Array:
        """The values, as float32."""
        scale, zero_point = self._along(array.ndim)
        return ((array.astype(np.float32) - zero_point) * scale).astype(np.float32, copy=False)

    def quantized(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """The nearest integers that `dtype` has."""
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
    """What a tensor looks like. A size of -1 is any size; a shape of None any rank.

    `quantization` says what the integers of a quantized model stand for. Callers give and get the integers.
    `part` says what it is of a ragged or sparse tensor, such as "row_splits of 'ids'"; empty for all others.
    """

    name: str
    dtype: str
    shape: Shape | None
    quantization: Quantization | None = None
    part: str = ""

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension may have any size, and counts examples: that of a part counts values."""
        return bool(self.shape) and self.shape is not None and self.shape[0] == -1 and not self.part

    def accepts(self, shape: Shape) -> bool:
        wanted = self.shape
        if wanted is None or wanted == shape:
            return True
        if len(wanted) != len(shape):
            return False
        for want, given in zip(wanted, shape, strict=True):  # noqa: SIM110 - a generator would take twice as long
            if want not in (-1, given):
                return False
        return True

    def __str__(self) -> str:
        part = f" ({self.part})" if self.part else ""
        return f"{self.dtype} of {'any shape' if self.shape is None else f'shape {list(self.shape)}'}{part}"


class Ragged(Invalid):
    """Lists of one depth have different lengths."""


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model can be asked: its inputs and outputs.

    `method` is `classify` or `regress` where the model takes serialized tf.Example, and empty for plain tensors.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method: str = ""


def cast(value: Any, spec: TensorSpec, name: str) -> Array:
    """The array of `spec.dtype` for a JSON value that a caller gave as `name`. Raises `Invalid`."""
    quick = _cast_few(value, spec)
    if quick is not None:
        return quick
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise Invalid(f"Input {name!r} takes {spec}, a type that can't be given in JSON.")
    shape = _shape_at_first_glance(value)
    check_shape(shape, spec, name)
    leaves = _leaves(value, shape, name)
    if dtype.kind == "string":
        return _strings(leaves, shape, spec, name)
    _check_leaves(leaves, dtype, spec, name)
    return _numbers(value, dtype, spec, name)


def check_shape(shape: Shape, spec: TensorSpec, name: str) -> None:
    """Raises `Invalid` when a value of this shape, that a caller gave as `name`, is none for `spec`."""
    if not spec.accepts(shape):
        raise Invalid(
            f"Input {name!r} takes {spec}; a value of shape {list(shape)} was given.{_batch_hint(shape, spec)}"
        )


def _cast_few(value: Any, spec: TensorSpec) -> Array | None:
    """The array for a short, regular list of numbers in range; None when there is any doubt. 2 µs for four floats."""
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
    except (TypeError, IndexError, KeyError, ValueError):  # no list, an empty one, a ragged one
        return None
    return array if array.ndim <= MAX_RANK and spec.accepts(array.shape) else None


def _shape_at_first_glance(value: Any) -> Shape:
    """The shape that the value has if all of its lists are as long as their first ones."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _batch_hint(shape: Shape, spec: TensorSpec) -> str:
    if spec.is_batched and spec.accepts((1, *shape)):
        return " Its first dimension counts examples: put [ ] around a single one."
    return ""


def _leaves(value: Any, shape: Shape, name: str) -> list[Any]:
    """All elements in order. Raises `Invalid` when a list is longer or shorter than its shape says.

    All in C, so a list of a million numbers takes milliseconds.
    """
    if len(shape) > MAX_RANK:
        raise Invalid(f"Input {name!r} has {len(shape)} dimensions; at most {MAX_RANK} are possible.")
    level: list[Any] = [value]
    for depth, size in enumerate(shape):
        if set(map(type, level)) != {list}:
            raise _ragged(name, shape, f"there is something else than a list at depth {depth}")
        lengths = set(map(len, level))
        if lengths != {size}:
            raise _ragged(name, shape, f"the lists at depth {depth} have lengths {sorted(lengths)[:5]}")
        level = list(chain.from_iterable(level))
    return level


def _ragged(name: str, shape: Shape, cause: str) -> Ragged:
    return Ragged(
        f"Input {name!r} is ragged: by its first elements its shape is {list(shape)}, but {cause}."
        " All lists of one depth must be equally long."
    )


def _check_leaves(leaves: Sequence[Any], dtype: DType, spec: TensorSpec, name: str) -> None:
    allowed, words = _LEAVES[dtype.kind]
    strangers = set(map(type, leaves)) - allowed
    if list in strangers:
        raise Ragged(f"Input {name!r} is ragged: some of its elements are lists and others are not.")
    if strangers:
        given = " and ".join(sorted(_JSON_NAMES.get(each, each.__name__) for each in strangers))
        raise Invalid(f"Input {name!r} takes {spec}, so {words}; {given} was given.")


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
        raise Invalid(f"Input {name!r} takes {spec}; a number was given that {dtype.name} can't hold.") from None
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
    raise Invalid(f'Input {name!r} takes {spec}, so text or {{"b64": "…"}}; {given} was given.')


def encode_text(text: str, owner: str) -> bytes:
    """The UTF-8 of a string that `owner` has. Raises `Invalid` for half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{owner} has text with half of a surrogate pair, which is not valid Unicode.") from None


def decode_b64(text: str, owner: str) -> bytes:
    """The bytes of a base64 value that `owner` has. Raises `Invalid`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one; characters beyond ASCII are another
        raise Invalid(f"{owner} has a b64 value that is not base64: {str(error).rstrip('.')}.") from None
