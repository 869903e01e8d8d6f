"""Where the classes in an output are close decisions: positions whose two highest scores are nearly equal.

A mask is the argmax of scores, or says where they exceed a threshold. Another runtime rounds the scores differently, so
it may find the other class where two scores are nearly equal. The mask does not show this, so the scores are read from
the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfserve.runtimes.tensorflow import GraphModel
from tfserve.tensors import Array, Signature

log = logging.getLogger(__name__)

CLOSE_RELATIVE, CLOSE_ABSOLUTE = 2e-3, 2e-5
"""Two scores are nearly equal within twice the tolerance for floats, since each of them may be off by that much."""

_SAME_POSITIONS = frozenset(
    {"Identity", "StopGradient", "Cast", "Squeeze", "ExpandDims", "Reshape", "PreventGradient", "EnsureShape"}
)
"""Operations whose first input has the same elements, in the same order."""

_HIGHEST = frozenset({"ArgMax", "ArgMin"})
_COMPARISONS = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual"})


class _Decision(NamedTuple):
    """One tensor of scores and the axis of the classes, or two tensors that are compared."""

    scores: tuple[str, ...]
    axis: int = -1
    lowest: bool = False


class Decisions:
    """The close decisions of one signature's outputs."""

    def __init__(self, session: Any, feeds: Mapping[str, str], found: Mapping[str, _Decision]) -> None:
        self._session = session
        self._feeds = feeds
        self._found = found

    def close_calls(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """For outputs that are classes by position a boolean array of their shape, true at each close decision."""
        if not self._found:
            return {}
        scores = self._session.run(
            {name: each.scores for name, each in self._found.items()},
            {self._feeds[name]: array for name, array in inputs.items() if name in self._feeds},
        )
        close = {name: _close(arrays, self._found[name]) for name, arrays in scores.items()}
        return {
            name: array.reshape(outputs[name].shape)
            for name, array in close.items()
            if array.size == outputs[name].size
        }


def find(runtime: object, name: str, signature: Signature) -> Decisions:
    """The decisions behind the outputs of whole numbers of a signature; none where the graph does not show them."""
    wanted = [
        spec.name for spec in signature.outputs if "int" in spec.dtype and (not spec.shape or len(spec.shape) > 2)
    ]
    if wanted and isinstance(runtime, GraphModel):
        try:
            return _find(runtime, name, wanted)
        except Exception:  # whatever TensorFlow raises about a graph that it can't inline
            log.debug("the graph of %s can't be inlined", name, exc_info=True)
    return Decisions(None, {}, {})


def _find(runtime: GraphModel, name: str, wanted: Sequence[str]) -> Decisions:
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    v1 = tf.compat.v1
    graph, inputs, outputs = runtime.freeze(name)
    imported = v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    ends = [imported.graph.get_tensor_by_name(outputs[each]) for each in wanted]
    starts = {each: imported.graph.get_tensor_by_name(tensor) for each, tensor in inputs.items()}
    function = imported.prune(list(starts.values()), ends)
    inlined = convert_to_constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
    definition = inlined.graph.as_graph_def()
    with tf.Graph().as_default() as final:
        tf.graph_util.import_graph_def(definition, name="")
        walked = {
            each: _decision(final.get_tensor_by_name(end.name))
            for each, end in zip(wanted, inlined.outputs, strict=True)
        }
        feeds = {each: own.name for each, own in zip(starts, inlined.inputs, strict=True)}
        found = {each: decision for each, decision in walked.items() if decision is not None}
        return Decisions(v1.Session(graph=final), feeds, found)


def _decision(tensor: Any) -> _Decision | None:
    """What decides each element of a tensor; None where that is not the highest score or a comparison of scores."""
    import tensorflow as tf

    while (at := _same_elements(tensor)) is not None:
        tensor = tensor.op.inputs[at]
    operation = tensor.op
    scores = list(operation.inputs)
    if not scores or not scores[0].dtype.is_floating:
        return None
    if operation.type in _COMPARISONS:
        return _Decision(tuple(each.name for each in scores))
    axis = tf.get_static_value(scores[1]) if operation.type in _HIGHEST else None
    return None if axis is None else _Decision((scores[0].name,), int(axis), lowest=operation.type == "ArgMin")


def _same_elements(tensor: Any) -> int | None:
    """Which input of the operation has the same elements, in the same order, perhaps by other names."""
    if tensor.op.type == "IdentityN":
        return int(tensor.value_index)
    return 0 if tensor.op.type in _SAME_POSITIONS else 1 if _is_table(tensor.op) else None


def _is_table(operation: Any) -> bool:
    """A list of constants that is looked up by class: the values of a mask, say."""
    import tensorflow as tf

    if operation.type != "GatherV2" or operation.inputs[0].shape.rank != 1:
        return False
    return tf.get_static_value(operation.inputs[0]) is not None


def _close(scores: Sequence[Array], decision: _Decision) -> Array:
    floats = [each.astype(np.float64) for each in scores]
    scale = max(1.0, *(float(np.abs(each).max(initial=0.0)) for each in floats))
    if len(floats) == 2:
        return _near(floats[0], floats[1], scale)
    values = -floats[0] if decision.lowest else floats[0]
    if values.shape[decision.axis] < 2:
        return np.zeros(values.size // max(1, values.shape[decision.axis]), np.bool_)
    ordered = np.partition(values, -2, axis=decision.axis)
    highest, next_one = (np.take(ordered, n, axis=decision.axis) for n in (-1, -2))
    return _near(highest, next_one, scale)


def _near(one: Array, other: Array, scale: float) -> Array:
    return np.asarray(np.abs(one - other) <= CLOSE_RELATIVE * np.abs(one) + CLOSE_ABSOLUTE * scale)
