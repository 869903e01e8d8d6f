"""Values of small integer tensors that are computed from constants and known sizes, such as orders of dimensions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array

MAX_ELEMENTS = 64
MAX_DEPTH = 20

_BY_ELEMENT: dict[str, Callable[..., Any]] = {
    "Add": operator.add, "AddV2": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Neg": operator.neg,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorMod": np.mod, "FloorDiv": np.floor_divide,
    "OnesLike": np.ones_like, "ZerosLike": np.zeros_like, "Cast": lambda value: value, "Less": operator.lt,
    "LogicalNot": np.logical_not, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or,
    "Select": np.where, "SelectV2": np.where,
}  # fmt: skip
_OTHERS: dict[str, Callable[..., Any]] = {
    "Range": np.arange,
    "Fill": lambda shape, value: np.full(shape, value),
    "Reshape": lambda value, shape: np.reshape(value, shape),
    "ExpandDims": lambda value, axis: np.expand_dims(value, int(np.ravel(axis)[0])),
    "ConcatV2": lambda *values: np.concatenate(values[:-1], int(values[-1])),
    "GatherV2": lambda value, indices, axis: np.take(value, indices, int(axis)),
}


def computed(tensor: Any, constant: Callable[[Any], Any], rank: Callable[[Any], int | None], depth: int = 0) -> Any:
    """The value, or None. `constant` gives values that need no computation, `rank` numbers of dimensions."""
    found = constant(tensor)
    if found is not None or depth > MAX_DEPTH:
        return found
    operation = tensor.op
    if operation.type == "Rank":
        known = rank(operation.inputs[0])
        return None if known is None else np.array(known)
    if operation.type not in _BY_ELEMENT and operation.type not in _OTHERS and operation.type != "Pack":
        return None
    if not operation.inputs or not _is_small(tensor):
        return None
    values = [computed(each, constant, rank, depth + 1) for each in operation.inputs]
    return None if any(value is None for value in values) else _applied(operation, values)


def _is_small(tensor: Any) -> bool:
    return bool(tensor.dtype.is_integer or tensor.dtype.is_bool)


def _applied(operation: Any, values: list[Array]) -> Any:
    if any(np.size(value) > MAX_ELEMENTS for value in values):
        return None
    if operation.type == "Pack":
        return np.stack(values, int(operation.get_attr("axis")))
    return np.asarray({**_BY_ELEMENT, **_OTHERS}[operation.type](*values))
