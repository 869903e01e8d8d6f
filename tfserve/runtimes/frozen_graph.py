"""Frozen graphs of TensorFlow 1 (`.pb`): weights are constants, and nothing names the inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
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
    add(tf, definition)
    graph = tf.compat.v1.get_default_graph()
    into, out_of = _named(graph, model.inputs) or inputs(graph), _named(graph, model.outputs) or outputs(graph)
    if not out_of:
        raise Invalid(f"{model.path} has no output: give the names of its tensors as outputs.")
    meta_graph = tf.compat.v1.MetaGraphDef()
    meta_graph.graph_def.library.CopyFrom(definition.library)
    build = tf.compat.v1.saved_model.build_tensor_info
    signature = meta_graph.signature_def[DEFAULT_SIGNATURE]
    for tensors, infos in ((into, signature.inputs), (out_of, signature.outputs)):
        for each in tensors:
            infos[alias(each)].CopyFrom(build(each))
    return meta_graph


def add(tf: Any, definition: Any) -> None:
    """Imports a graph into the current one, under its own names and without its devices."""
    for node in definition.node:
        node.ClearField("device")
        node.attr.pop("_output_shapes", None)  # hints of older versions, some of which this one refuses
    tf.graph_util.import_graph_def(definition, name="")


def inputs(graph: Any) -> list[Any]:
    """The tensors of the placeholders."""
    return [each.outputs[0] for each in graph.get_operations() if each.type in _INPUTS]


def outputs(graph: Any) -> list[Any]:
    """The tensors that nothing uses."""
    return list(_unused(graph.get_operations()))


def save(
    tf: Any, graph: Any, *, inputs: Mapping[str, Any], outputs: Mapping[str, Any], folder: Path,
    signature: str = DEFAULT_SIGNATURE,
) -> None:  # fmt: skip
    """Writes a graph without variables as a SavedModel, with these tensors by the names of its one signature."""
    describe = tf.compat.v1.saved_model.build_tensor_info
    sides = [{name: describe(each) for name, each in side.items()} for side in (inputs, outputs)]
    definition = tf.compat.v1.saved_model.build_signature_def(*sides, method_name="tensorflow/serving/predict")
    with tf.compat.v1.Session(graph=graph) as session:
        builder: Any = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={signature: definition})
        builder.save()


def _named(graph: Any, names: Sequence[str]) -> list[Any]:
    """The tensors of these names, with or without the number of the output."""
    return [tensor(graph, name) for name in names]


def tensor(graph: Any, name: str) -> Any:
    """The tensor of this name, with or without the number of the output. Raises `Invalid`."""
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        known = [each.name for each in graph.get_operations() if each.outputs]
        raise Invalid(f"The graph has no tensor {name!r}{nearest(name, known)}. There are: {listed(known)}.") from None


def _unused(operations: Iterable[Any]) -> Iterable[Any]:
    """The outputs of each operation of which nothing is used."""
    for operation in operations:
        is_output = operation.outputs and operation.type not in _NO_OUTPUTS
        is_check = any(part.startswith("AssertGuard") for part in operation.name.split("/"))  # TensorFlow's own name
        if is_output and not is_check and not any(tensor.consumers() for tensor in operation.outputs):
            yield from operation.outputs


def alias(tensor: Any) -> str:
    """The name of a tensor as people write it: the first output of an operation has the operation's name."""
    return str(tensor.name.removesuffix(":0"))
