"""Example requests made from a signature: the JSON of v1 and v2 with synthetic values.

Where the model has rejected the usual values in its warm-up, the values are those that it accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec

FEW = 1000
"""Maximum numbers to write out."""

_LITERALS: dict[str, Any] = {"bool": True, "int": 0, "float": 0.5, "string": "text"}


def is_small(signature: Signature) -> bool:
    """Whether an example can be written out."""
    return sum(prod(shape(spec)) for spec in signature.inputs) <= FEW


def v1_body(signature: Signature) -> dict[str, Any]:
    """The body of predict, classify or regress, without the name of the signature."""
    if signature.method:
        return {"examples": [{"<feature>": 0.5}]}
    values = {spec.name: filled(spec) for spec in signature.inputs}
    if not _is_in_rows(signature):
        return {"inputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"instances": next(iter(values.values()))}
    return {"instances": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def v2_body(signature: Signature) -> dict[str, Any]:
    """The body of `/v2/models/<name>/infer`, without the name of the signature."""
    return {"inputs": [_v2_tensor(spec) for spec in signature.inputs]}


def shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an example: open sizes are 1."""
    if spec.example is not None:
        return np.shape(spec.example)
    return tuple(1 if size < 0 else size for size in spec.shape or ())


def literal(spec: TensorSpec) -> Any:
    """One element."""
    if spec.example is not None:
        return next(iter(_elements(spec.example)))
    return _LITERALS[DTYPES[spec.dtype].kind]


def filled(spec: TensorSpec) -> Any:
    """A value as nested lists, with all elements equal unless the model rejects those."""
    if spec.example is not None:
        return spec.example
    return _part(spec) if spec.part else _nested(literal(spec), shape(spec))


def _v2_tensor(spec: TensorSpec) -> dict[str, Any]:
    value = filled(spec) if spec.part else _flat(spec)
    sizes = [len(value)] if spec.part.startswith("row_splits") else list(shape(spec))
    return {"name": spec.name, "shape": sizes, "datatype": DTYPES[spec.dtype].v2, "data": value}


def _flat(spec: TensorSpec) -> list[Any]:
    return [literal(spec)] * prod(shape(spec)) if spec.example is None else list(_elements(spec.example))


def _is_in_rows(signature: Signature) -> bool:
    """Whether each output may have a row for each row of the inputs."""
    rows = [spec.shape is None or spec.is_batched for spec in signature.outputs]
    return bool(signature.inputs) and all(spec.is_batched for spec in signature.inputs) and all(rows)


def _elements(value: Any) -> Iterator[Any]:
    """The elements of nested lists, row-major."""
    if not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from _elements(each)


def _part(spec: TensorSpec) -> Any:
    """The value of one component such that all components form a tensor with a single value."""
    if spec.part.startswith("row_splits"):
        return [0, 1]
    value: Any = 1 if spec.part.startswith("dense_shape") else 0 if spec.part.startswith("indices") else literal(spec)
    return _nested(value, shape(spec))


def _nested(value: Any, sizes: tuple[int, ...]) -> Any:
    for size in reversed(sizes):
        value = [value] * size
    return value
