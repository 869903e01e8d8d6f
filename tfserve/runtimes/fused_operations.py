"""Operations that TensorFlow.js fuses, as the plain ones of TensorFlow that compute the same.

TensorFlow.js has `Prelu`, `FusedDepthwiseConv2dNative` and its own form of `_FusedConv2D` and `_FusedMatMul`, which
TensorFlow lacks, and so do the runtimes that read its graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tfserve.errors import Invalid

PLAIN = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative", "_FusedMatMul": "MatMul"}

_KEPT = {
    "Conv2D": ("strides", "padding", "explicit_paddings", "data_format", "dilations"),
    "DepthwiseConv2dNative": ("strides", "padding", "explicit_paddings", "data_format", "dilations"),
    "MatMul": ("transpose_a", "transpose_b"),
}
_ACTIVATIONS = ("Relu", "Relu6", "Elu", "LeakyRelu", "Sigmoid", "Tanh")
_KNOWN = ("BiasAdd", "Prelu", *_ACTIVATIONS)


_OUTPUT_NAMES = {
    "Conv2D": "output", "DepthwiseConv2dNative": "output", "MatMul": "product", "BiasAdd": "output",
    "Relu": "activations", "Relu6": "activations", "Elu": "activations", "LeakyRelu": "activations", "Sigmoid": "y",
    "Tanh": "y", "Neg": "y", "Mul": "z", "AddV2": "z",
}  # fmt: skip
"""What each operation calls its output. Inside a function a tensor is `operation:output:0`."""


def unfuse_function(function: Any) -> None:
    """Replaces the fused nodes of a function, and what refers to them. Raises `Invalid`."""
    nodes, made = [], {}
    for node in function.node_def:
        parts = list(unfuse(node))
        nodes += parts
        if parts != [node]:
            made.update({part.name: _OUTPUT_NAMES[part.op] for part in parts})

    def renamed(tensor: str) -> str:
        name = tensor.partition(":")[0]
        return f"{name}:{made[name]}:0" if name in made else tensor

    for node in nodes:
        node.input[:] = [renamed(each) for each in node.input]
    for key, tensor in function.ret.items():
        function.ret[key] = renamed(tensor)
    del function.node_def[:]
    function.node_def.extend(nodes)


def unfuse(node: Any) -> Iterator[Any]:
    """The nodes for a node, itself if it is not fused; the last one has its name. Raises `Invalid`."""
    if node.op == "Prelu":
        yield from _Parts(node).alone()
    elif node.op in PLAIN:
        yield from _Parts(node).all()
    else:
        yield node


class _Parts:
    def __init__(self, node: Any) -> None:
        self._node = node
        self._type = node.attr["T"].type or 1  # float32: TensorFlow.js computes with nothing else here
        self._inputs = [name for name in node.input if not name.startswith("^")]
        self._controls = [name for name in node.input if name.startswith("^")]

    def alone(self) -> Iterator[Any]:
        """`Prelu` that is not fused with anything."""
        if len(self._inputs) != 2:
            raise Invalid(f"The operation {self._node.name!r} is a Prelu, but has {len(self._inputs)} inputs.")
        yield from self.prelu(self._inputs[0], self._inputs[1], self._node.name)

    def all(self) -> Iterator[Any]:
        """The operation itself, and then what is fused with it, each on the result of the one before."""
        node, plain = self._node, PLAIN[self._node.op]
        steps = [each.decode(errors="replace") for each in node.attr["fused_ops"].list.s]
        if strange := [step for step in steps if step not in _KNOWN]:
            raise Invalid(
                f"The operation {node.name!r} fuses {node.op} with {strange[0]!r}. Supported: {', '.join(_KNOWN)}."
            )
        names = [*(f"{node.name}/unfused_{n}" for n in range(len(steps))), node.name]
        if len(self._inputs) != 2 + sum(step in ("BiasAdd", "Prelu") for step in steps):
            raise Invalid(f"The operation {node.name!r} fuses {', '.join(steps)}, but has {len(self._inputs)} inputs.")
        first = self._new(plain, names[0], self._inputs[:2])
        first.input.extend(self._controls)
        self._copy(first, _KEPT[plain])
        yield first
        arguments = iter(self._inputs[2:])
        for step, source, name in zip(steps, names, names[1:], strict=False):
            yield from self._step(step, source, name, arguments)

    def _step(self, step: str, source: str, name: str, arguments: Iterator[str]) -> Iterator[Any]:
        if step == "Prelu":
            yield from self.prelu(source, next(arguments), name)
            return
        made = self._new(step, name, [source, next(arguments)] if step == "BiasAdd" else [source])
        if step == "BiasAdd":
            self._copy(made, ["data_format"])
        if step == "LeakyRelu":
            made.attr["alpha"].f = self._node.attr["leakyrelu_alpha"].f if "leakyrelu_alpha" in self._node.attr else 0.2
        yield made

    def prelu(self, x: str, alpha: str, name: str) -> Iterator[Any]:
        """`relu(x) + alpha * -relu(-x)`, which is exact."""
        positive, negated, negative, negative_part, scaled = (f"{name}/prelu_{n}" for n in range(5))
        first = self._new("Relu", positive, [x])
        if self._node.op == "Prelu":
            first.input.extend(self._controls)
        yield first
        yield self._new("Neg", negated, [x])
        yield self._new("Relu", negative, [negated])
        yield self._new("Neg", negative_part, [negative])
        yield self._new("Mul", scaled, [alpha, negative_part])
        yield self._new("AddV2", name, [positive, scaled])

    def _new(self, operation: str, name: str, inputs: Sequence[str]) -> Any:
        made = type(self._node)(name=name, op=operation, input=inputs)
        made.attr["T"].type = self._type
        return made

    def _copy(self, made: Any, attributes: Sequence[str]) -> None:
        for each in attributes:
            if each in self._node.attr:
                made.attr[each].CopyFrom(self._node.attr[each])
