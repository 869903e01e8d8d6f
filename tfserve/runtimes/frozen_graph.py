"""Frozen graphs of TensorFlow 1 (`.pb`): weights are constants, and nothing names the inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfserve.errors import Invalid, nearest
from tfserve.models.formats import Located
from tfserve.runtimes.interface import listed
from tfserve.tensors import DEFAULT_SIGNATURE

_INPUTS = frozenset({"Placeholder", "PlaceholderV2"})
_NO_OUTPUTS = frozenset({"Const", "NoOp", "Assert", "Print", "PrintV2", "Placeholder", "PlaceholderWithDefault"})
"""Nothing uses them, and yet they are not what a model is for."""


def load(tf: Any, model: Located) -> Any:
    """Imports the graph into the current one, and returns a meta graph with the signature `serving_default`.

    Raises `Invalid`.
    """
    definition = tf.compat.v1.GraphDef.FromString(model.path.read_bytes())
    for node in definition.node:
        node.ClearField("device")
        node.attr.pop("_output_shapes", None)  # hints of older versions, some of which this one refuses
    tf.graph_util.import_graph_def(definition, name="")
    graph = tf.compat.v1.get_default_graph()
    operations = graph.get_operations()
    inputs = _named(graph, model.inputs) or [each.outputs[0] for each in operations if each.type in _INPUTS]
    outputs = _named(graph, model.outputs) or list(_unused(operations))
    if not outputs:
        raise Invalid(f"{model.path} has no output: give the names of its tensors as outputs.")
    meta_graph = tf.compat.v1.MetaGraphDef()
    meta_graph.graph_def.library.CopyFrom(definition.library)
    build = tf.compat.v1.saved_model.build_tensor_info
    signature = meta_graph.signature_def[DEFAULT_SIGNATURE]
    for tensors, infos in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for tensor in tensors:
            infos[_alias(tensor)].CopyFrom(build(tensor))
    return meta_graph


def _named(graph: Any, names: Sequence[str]) -> list[Any]:
    """The tensors of these names, with or without the number of the output."""
    return [_tensor(graph, name) for name in names]


def _tensor(graph: Any, name: str) -> Any:
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        known = [each.name for each in graph.get_operations() if each.outputs]
        raise Invalid(
            f"The frozen graph has no tensor {name!r}{nearest(name, known)}. There are: {listed(known)}."
        ) from None


def _unused(operations: Iterable[Any]) -> Iterable[Any]:
    """The outputs of each operation of which nothing is used."""
    for operation in operations:
        is_output = operation.outputs and operation.type not in _NO_OUTPUTS
        is_check = any(part.startswith("AssertGuard") for part in operation.name.split("/"))  # TensorFlow's own name
        if is_output and not is_check and not any(tensor.consumers() for tensor in operation.outputs):
            yield from operation.outputs


def _alias(tensor: Any) -> str:
    """The name of a tensor as people write it: the first output of an operation has the operation's name."""
    return str(tensor.name.removesuffix(":0"))
