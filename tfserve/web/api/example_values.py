"""Values for example requests, made from the specs of a model's inputs."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import TensorSpec

FEW = 1000
"""Maximum numbers to write out."""

_LITERALS: dict[str, Any] = {"bool": True, "int": 0, "float": 0.5, "string": "text"}


def are_few(specs: Iterable[TensorSpec]) -> bool:
    """Whether the values of all inputs can be written out."""
    return sum(prod(shape(spec)) for spec in specs) <= FEW


def shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an example: 1 for an open size."""
    return tuple(1 if size < 0 else size for size in spec.shape or ())


def literal(spec: TensorSpec) -> Any:
    """One value."""
    return _LITERALS[DTYPES[spec.dtype].kind]


def filled(spec: TensorSpec) -> Any:
    """Nested lists of the same value."""
    return _part(spec) if spec.part else _nested(spec, literal(spec))


def _part(spec: TensorSpec) -> Any:
    """The value of one component such that all components form a tensor with a single value."""
    if spec.part.startswith("row_splits"):
        return [0, 1]
    is_position = spec.part.startswith("indices")
    return _nested(spec, 1 if spec.part.startswith("dense_shape") else 0 if is_position else literal(spec))


def _nested(spec: TensorSpec, value: Any) -> Any:
    for size in reversed(shape(spec)):
        value = [value] * size
    return value
