"""Values of small integer tensors that are computed from constants and known sizes, such as orders of dimensions."""

from __future__ import annotations

import math
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


def computed(
    tensor: Any,
    constant: Callable[[Any], Any],
    rank: Callable[[Any], int | None],
    known: dict[str, Any],
    depth: int = 0,
) -> Any:
    """The value, or None. `constant` gives values that need no computation, `rank` numbers of dimensions.

    `known` keeps what was computed before.
    """
    if tensor.name not in known:
        found = constant(tensor)
        if found is None and depth <= MAX_DEPTH:
            found = _of_operation(tensor, constant, rank, known, depth)
        known[tensor.name] = found if found is None or np.size(found) <= MAX_ELEMENTS else None
    return known[tensor.name]


def is_small(tensor: Any) -> bool:
    """Whether the tensor is not known to have many elements, such as weights."""
    count = tensor.shape.num_elements()
    return count is None or count <= MAX_ELEMENTS


def _of_operation(
    tensor: Any, constant: Callable[[Any], Any], rank: Callable[[Any], int | None], known: dict[str, Any], depth: int
) -> Any:
    operation = tensor.op
    if operation.type == "Rank":
        count = rank(operation.inputs[0])
        return None if count is None else np.array(count)
    if operation.type not in _BY_ELEMENT and operation.type not in _OTHERS and operation.type != "Pack":
        return None
    if not operation.inputs or not _is_whole(tensor) or not is_small(tensor):
        return None
    values = [computed(each, constant, rank, known, depth + 1) for each in operation.inputs]
    return None if any(value is None for value in values) else _applied(operation, values)


def _is_whole(tensor: Any) -> bool:
    return bool(tensor.dtype.is_integer or tensor.dtype.is_bool)


def _applied(operation: Any, values: list[Array]) -> Any:
    if _is_too_large(operation.type, values):
        return None
    if operation.type == "Pack":
        return np.stack(values, int(operation.get_attr("axis")))
    return np.asarray({**_BY_ELEMENT, **_OTHERS}[operation.type](*values))


def _is_too_large(kind: str, values: list[Array]) -> bool:
    """Whether an argument, or what is made of few arguments, has many elements."""
    if kind == "Fill":
        return math.prod(map(int, np.ravel(values[0]))) > MAX_ELEMENTS
    if kind == "Range":
        start, limit, step = (float(value) for value in values)
        return abs(limit - start) > MAX_ELEMENTS * abs(step)
    return any(np.size(value) > MAX_ELEMENTS for value in values)
