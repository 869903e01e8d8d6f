"""Example requests made from a signature: the JSON of v1 and v2 with synthetic values."""

from __future__ import annotations

from math import prod
from typing import Any

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
    return {"instances": [{name: value[0] for name, value in values.items()}]}


def v2_body(signature: Signature) -> dict[str, Any]:
    """The body of `/v2/models/<name>/infer`, without the name of the signature."""
    return {"inputs": [_v2_tensor(spec) for spec in signature.inputs]}


def shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an example: open sizes are 1."""
    return tuple(1 if size < 0 else size for size in spec.shape or ())


def literal(spec: TensorSpec) -> Any:
    """One element."""
    return _LITERALS[DTYPES[spec.dtype].kind]


def filled(spec: TensorSpec) -> Any:
    """A value with all elements equal, as nested lists."""
    return _part(spec) if spec.part else _nested(literal(spec), shape(spec))


def _v2_tensor(spec: TensorSpec) -> dict[str, Any]:
    value = filled(spec) if spec.part else [literal(spec)] * prod(shape(spec))
    sizes = [len(value)] if spec.part.startswith("row_splits") else list(shape(spec))
    return {"name": spec.name, "shape": sizes, "datatype": DTYPES[spec.dtype].v2, "data": value}


def _is_in_rows(signature: Signature) -> bool:
    return bool(signature.inputs) and all(spec.is_batched for spec in signature.inputs)


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
