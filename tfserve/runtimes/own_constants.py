"""Keeps TensorFlow from replacing a model's own constants in hard swish and GELU.

TensorFlow's graph optimizer takes constants near those of these activations for exact ones, and computes the whole in
one operation of oneDNN. If the weights of a model were stored as float16, 1/6 is 0.16663. Each layer is then off by
2 in 10,000, and the output of a deep network by 3 in 1,000. The optimizer only recognizes sums, so `x + 3` becomes
`x - -3`, which is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

EXACT = tuple(float(np.float32(each)) for each in (1 / 6, 0.5**0.5, 2**0.5, (2 / np.pi) ** 0.5, 0.044715))
"""Of hard swish, and of GELU with erf and with tanh."""
NEAR = 0.01
"""Constants with a smaller relative difference from these are taken for them."""
_SUMS = ("Add", "AddV2")


def keep(nodes: Sequence[Any]) -> list[Any]:
    """The constants to be added to the nodes of a graph or of a function, which are changed in place."""
    constants = {node.name: value for node in nodes if (value := _scalar(node)) is not None}
    if not any(map(_may_be_replaced, constants.values())):
        return []
    limited = {_name(node.input[0]) for node in nodes if node.op == "Relu6"}
    curves = {node.name for node in nodes if node.op in ("Erf", "Tanh")}
    made: list[Any] = []
    for node in nodes:
        if node.op in _SUMS and (node.name in limited or curves.intersection(map(_name, node.input))):
            made += _as_difference(node, constants, nodes)
    return made


def _may_be_replaced(value: float) -> bool:
    return any(0 < abs(value - exact) < NEAR * exact for exact in EXACT)


def _as_difference(node: Any, constants: Mapping[str, float], nodes: Iterable[Any]) -> list[Any]:
    """Subtracts the negative of a constant instead of adding it, and returns that."""
    names = [_name(each) for each in node.input]
    at = next((n for n, name in enumerate(names[:2]) if name in constants), None)
    if at is None:
        return []
    negative = type(node)()
    negative.CopyFrom(next(each for each in nodes if each.name == names[at]))
    negative.name = f"{node.name}/negative"
    _fill(negative, -constants[names[at]])
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
