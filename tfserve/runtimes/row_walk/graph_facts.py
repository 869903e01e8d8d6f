"""What is known of the tensors of one graph. TensorFlow's objects are handed in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tfserve.runtimes.row_walk import constants
from tfserve.runtimes.row_walk.operation_inputs import Shape
from tfserve.runtimes.row_walk.row_states import State

#: return their input
SAME_TENSOR = frozenset({"Identity", "StopGradient", "Snapshot", "EnsureShape"})
_NUMBERS = itertools.count()


def new_number() -> int:
    """Part of the names of sources. Unlike `id`, it is never used again."""
    return next(_NUMBERS)


class GraphFacts:
    """What is known of the tensors of one graph, by their names; `sources` are the tensors that others repeat."""

    def __init__(self, graph: Any, static_value: Callable[[Any], Any]) -> None:
        self.graph = graph
        self.states: dict[str, State] = {}
        self.shapes: dict[str, Shape | None] = {}
        self.values: dict[str, Any] = {}
        #: operations, and their outputs, of a branch of TensorFlow 1 that is never taken
        self.dead: set[str] = set()
        #: why it depends on the batch whether an operation of TensorFlow 1 is computed
        self.gates: dict[str, State] = {}
        self._sources: dict[str, str] = {}
        self._static_value = static_value
        self._number = new_number()
        self._computed: dict[str, Any] = {}

    def give(self, tensor: Any, state: State, shape: Shape | None, source: str | None, value: Any = None) -> None:
        if tensor.name in self.states:  # it is fed, so the operation does not count
            return
        self.states[tensor.name] = state
        self.shapes[tensor.name] = shape
        if source is not None:
            self._sources[tensor.name] = source
        if value is not None:
            self.values[tensor.name] = value

    def shape(self, tensor: Any) -> Shape | None:
        if tensor.shape.rank is not None:
            return tuple(tensor.shape.as_list())
        if (known := self.shapes.get(tensor.name)) is not None:
            return known
        return _noted_shape(tensor)

    def source(self, tensor: Any) -> str:
        while tensor.name not in self._sources and tensor.op.type in SAME_TENSOR:
            tensor = tensor.op.inputs[0]
        return self._sources.get(tensor.name, f"{self._number}/{tensor.name}")

    def constant(self, tensor: Any) -> Any:
        while tensor.name not in self.values and tensor.op.type in {"PlaceholderWithDefault", *SAME_TENSOR}:
            tensor = tensor.op.inputs[0]
        found = self.values.get(tensor.name)
        return self._static_value(tensor) if found is None and constants.is_small(tensor) else found

    def computed(self, tensor: Any) -> Any:
        return constants.computed(tensor, self.constant, self._rank, self._computed)

    def _rank(self, tensor: Any) -> int | None:
        shape = self.shape(tensor)
        return None if shape is None else len(shape)


def _noted_shape(tensor: Any) -> Shape | None:
    """The shape that was noted when the graph was traced."""
    attributes = tensor.op.node_def.attr
    noted = attributes["_output_shapes"].list.shape if "_output_shapes" in attributes else ()
    return sizes_of(noted[tensor.value_index]) if tensor.value_index < len(noted) else None


def sizes_of(proto: Any) -> Shape | None:
    """The sizes in a message of TensorFlow; None if their number is not known."""
    return None if proto.unknown_rank else tuple(None if each.size < 0 else each.size for each in proto.dim)
