"""Converts TensorFlow.js graph models to SavedModels: the same graph with its weights, and without fused operations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfserve.errors import Invalid
from tfserve.models import tfjs
from tfserve.models.tfjs import ModelJson
from tfserve.runtimes import frozen_graph, fused_operations, own_constants, tfjs_weights
from tfserve.runtimes.error_summary import cause
from tfserve.tensors.specs import Array


def export(file: Path, folder: Path) -> None:
    """Writes a SavedModel with the names of the model's own signature. Raises `Invalid`, with the cause."""
    import tensorflow as tf

    model = tfjs.read(file)
    try:
        definition = _definition(tf, file, model)
        with tf.Graph().as_default() as graph:
            frozen_graph.add(tf, definition)
            inputs, outputs = _side(graph, model, "inputs"), _side(graph, model, "outputs")
            if not outputs:
                raise Invalid(f"{file} has no output: it has neither a signature nor a tensor that no operation uses.")
            frozen_graph.save(tf, graph, inputs=inputs, outputs=outputs, folder=folder)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise Invalid(f"{file} can't be imported as a TensorFlow graph: {cause(error)}.") from error


def _definition(tf: Any, file: Path, model: ModelJson) -> Any:
    from google.protobuf import json_format

    definition = tf.compat.v1.GraphDef()
    try:
        json_format.ParseDict(model.model_topology, definition, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError) as error:
        raise Invalid(f"{file} has a modelTopology that is not a TensorFlow graph in JSON: {error}") from error
    weights = tfjs_weights.read(file, model)
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        for node in nodes:
            if node.op == "Const":
                _fill(tf, file, node, weights)
    for function in definition.library.function:
        fused_operations.unfuse_function(function)
        function.node_def.extend(own_constants.keep(function.node_def))
    plain = [each for node in definition.node for each in fused_operations.unfuse(node)]
    plain += own_constants.keep(plain)
    return type(definition)(node=plain, library=definition.library, versions=definition.versions)


def _fill(tf: Any, file: Path, node: Any, weights: Mapping[str, Array]) -> None:
    """Puts the weights into a constant. TensorFlow.js has fewer dtypes than the graph, which declares the real one."""
    value = node.attr["value"].tensor
    declared = node.attr["dtype"].type or value.dtype
    if (array := weights.get(node.name)) is not None:
        dtype = tf.dtypes.as_dtype(declared) if declared else tf.dtypes.as_dtype(array.dtype)
        converted = array if dtype == tf.string else array.astype(dtype.as_numpy_dtype)
        node.attr["dtype"].type = dtype.as_datatype_enum
        value.CopyFrom(tf.make_tensor_proto(converted, dtype=dtype, shape=array.shape))
    elif not _has_values(value):
        raise Invalid(f"{file} has no weights for the constant {node.name!r}: its weightsManifest does not list it.")


def _has_values(value: Any) -> bool:
    """Whether the constant is in the graph itself."""
    fields = {field.name for field, _ in value.ListFields()}
    return bool(fields - {"dtype", "tensor_shape", "version_number"}) or any(not d.size for d in value.tensor_shape.dim)


def _side(graph: Any, model: ModelJson, side: str) -> dict[str, Any]:
    """The tensors by the names of the signature; otherwise the placeholders, or the tensors that no operation uses."""
    described = model.signature_side(side)
    if described:
        return {name: frozen_graph.tensor(graph, _tensor_name(name, each)) for name, each in described.items()}
    find = frozen_graph.inputs if side == "inputs" else frozen_graph.outputs
    return {frozen_graph.alias(each): each for each in find(graph)}


def _tensor_name(name: str, described: Any) -> str:
    """If a description lacks the tensor's name, the key is its name."""
    return str(described.get("name") or name) if isinstance(described, dict) else name
