"""Keeps TensorFlow from replacing a model's own constant in hard swish, `x * relu6(x + 3) * c`.

TensorFlow's graph optimizer takes any `c` near 1/6 for 1/6 and computes the whole in one operation of oneDNN. If the
weights of a model were stored as float16, `c` is 0.16663. Each layer is then off by 2 in 10,000, and the output of
a deep network by 3 in 1,000. The optimizer only recognizes a sum, so `x + 3` becomes `x - -3`, which is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

SIXTH = float(np.float32(1 / 6))
NEAR = 1e-3
"""Constants this near to 1/6 are taken for it."""
_SUMS = ("Add", "AddV2")


def keep_constants(nodes: Sequence[Any]) -> list[Any]:
    """The nodes of a graph or of a function, changed in place, and the constants to be added to them."""
    constants = {node.name: value for node in nodes if (value := _scalar(node)) is not None}
    if not any(0 < abs(value - SIXTH) < NEAR for value in constants.values()):
        return []
    limited = {_name(node.input[0]) for node in nodes if node.op == "Relu6"}
    return [
        made
        for node in nodes
        if node.op in _SUMS and node.name in limited
        for made in _as_difference(node, constants, nodes)
    ]


def _as_difference(node: Any, constants: Mapping[str, float], nodes: Iterable[Any]) -> list[Any]:
    names = [_name(each) for each in node.input]
    at = next((n for n, name in enumerate(names[:2]) if constants.get(name) == 3.0), None)
    if at is None:
        return []
    constant = next(each for each in nodes if each.name == names[at])
    negative = type(constant)()
    negative.CopyFrom(constant)
    negative.name = f"{node.name}/minus_three"
    _fill(negative, -3.0)
    reference = node.input[at].replace(names[at], negative.name, 1)
    node.op = "Sub"
    node.input[:2] = [node.input[1 - at], reference]
    return [negative]


def _name(reference: str) -> str:
    return reference.partition(":")[0]


def _scalar(node: Any) -> float | None:
    """The value of a constant with a single float32."""
    from tensorflow import make_ndarray

    if node.op != "Const" or node.attr["dtype"].type != 1:
        return None
    tensor = node.attr["value"].tensor
    if any(dim.size != 1 for dim in tensor.tensor_shape.dim):
        return None
    value = make_ndarray(tensor)
    return float(value.reshape(-1)[0]) if value.size == 1 else None


def _fill(constant: Any, value: float) -> None:
    from tensorflow import make_ndarray, make_tensor_proto

    tensor = constant.attr["value"].tensor
    tensor.CopyFrom(make_tensor_proto(np.full_like(make_ndarray(tensor), value)))
