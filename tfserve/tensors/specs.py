"""Tensor specs and signatures: what a model takes and returns."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tfserve.errors import Invalid

Shape = tuple[int, ...]
Array = NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"

MAX_RANK = 32
MAX_ELEMENTS = 2**40
"""More than any request can hold. An empty array also has sizes, and numpy multiplies them."""


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
    `example` is a value for example requests as nested lists, if the model rejects the usual one.
    `rows_elsewhere` says that another dimension than the first is known to count examples.
    `default` is the value of an optional input as nested lists, if it is known and small.
    """

    name: str
    dtype: str
    shape: Shape | None
    quantization: Quantization | None = None
    part: str = ""
    example: Any = None
    rows_elsewhere: bool = False
    default: Any = None

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension is variable and counts examples. In a component (`part`) it counts values."""
        is_variable = bool(self.shape) and self.shape is not None and self.shape[0] == -1
        return is_variable and not (self.part or self.rows_elsewhere)

    def accepts(self, shape: Shape) -> bool:
        requested = self.shape
        if requested is None or requested == shape:
            return True
        if requested[1:] == shape[1:]:
            return len(requested) == len(shape) > 0 and requested[0] == -1
        if len(requested) != len(shape):
            return False
        for want, given in zip(requested, shape, strict=True):  # noqa: SIM110 - a generator takes twice as long
            if want not in (-1, given):
                return False
        return True

    def __str__(self) -> str:
        part = f" ({self.part})" if self.part else ""
        return f"{self.dtype} of {'any shape' if self.shape is None else f'shape {list(self.shape)}'}{part}"


class Signature(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """The inputs and outputs of one function of a model.

    `method` is `classify` or `regress` if the model takes serialized tf.Example, and empty for plain tensors.
    `optional` are further inputs, which have a default: requests need not set them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method: str = ""
    optional: tuple[TensorSpec, ...] = ()

    @cached_property
    def takes(self) -> tuple[TensorSpec, ...]:
        """All inputs that a request may set."""
        return self.inputs + self.optional

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple([spec.name for spec in self.inputs])

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        return tuple([spec.name for spec in self.outputs])

    @cached_property
    def input_of_rows(self) -> TensorSpec | None:
        """The only input, if its first dimension may count rows."""
        (only,) = self.inputs if len(self.inputs) == 1 else (None,)
        return only if only is not None and only.shape != () and not only.part else None

    @cached_property
    def with_rows_elsewhere(self) -> TensorSpec | None:
        """The first tensor whose examples are not counted by its first dimension."""
        return next((spec for spec in (*self.inputs, *self.outputs) if spec.rows_elsewhere), None)


def check_shape(shape: Shape, spec: TensorSpec, name: str) -> None:
    """Raises `Invalid` if an array of this shape does not match the `spec` of input `name`, or cannot exist.

    To be called before anything is allocated for it.
    """
    if len(shape) > MAX_RANK:
        raise Invalid(f"Input {name!r} has {len(shape)} dimensions; the maximum is {MAX_RANK}.")
    if shape and min(shape) < 0:
        raise Invalid(f"Input {name!r} has shape {list(shape)}, but sizes must not be negative.")
    if not spec.accepts(shape):
        raise Invalid(f"Input {name!r} takes {spec}, got shape {list(shape)}.{_batch_hint(shape, spec)}")
    if prod([size or 1 for size in shape]) > MAX_ELEMENTS:
        raise Invalid(
            f"Input {name!r} has shape {list(shape)}; the maximum is {MAX_ELEMENTS} elements, counting sizes of 0 as 1."
        )


def _batch_hint(shape: Shape, spec: TensorSpec) -> str:
    if spec.is_batched and spec.accepts((1, *shape)):
        return f" Its first dimension counts examples: send a single example as shape {[1, *shape]}."
    fixed = spec.shape[0] if spec.shape else -1
    if fixed >= 0 and shape and spec.accepts((fixed, *shape[1:])):
        return f" Its first dimension is fixed: send exactly {fixed} in each request."
    return ""
