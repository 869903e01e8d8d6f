"""The walk through the graph of a TensorFlow session."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from tfserve.runtimes.row_walk import operations
from tfserve.runtimes.row_walk.operation_inputs import Shape
from tfserve.runtimes.row_walk.walk import GraphTooLarge, RowWalk

log = logging.getLogger(__name__)


def why_mixed(graph: Any, inputs: Iterable[Any], outputs: Sequence[Any]) -> str:
    """Why an output of a graph may depend on several rows of these inputs; empty if none does."""
    import tensorflow as tf

    try:
        functions = _Functions(graph)
        return RowWalk(functions.of, tf.get_static_value, functions.draw).why_mixed(graph, inputs, outputs)
    except GraphTooLarge:
        return "its graph is too large to be followed"
    except Exception:  # whatever is strange about a graph, its requests can be computed alone
        log.warning("the rows of a batch can't be followed through a graph", exc_info=True)
        return "its graph can't be followed"


class _Functions:
    """The functions of a graph as graphs of their own."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._made: dict[tuple[str, tuple[Shape | None, ...]], Any] = {}
        self._random: dict[str, bool] = {}

    def draw(self, name: str) -> bool:
        """Whether a function, or one that it calls, draws random numbers."""
        if name not in self._random:
            self._random[name] = False  # it may call itself
            nodes = self._graph._get_function(name).cached_definition.node_def
            called = {each.func.name for node in nodes for each in node.attr.values() if each.HasField("func")}
            called |= {each.name for node in nodes for value in node.attr.values() for each in value.list.func}
            self._random[name] = any(operations.draws(node.op) for node in nodes) or any(map(self.draw, called))
        return self._random[name]

    def of(self, name: str, shapes: Sequence[Shape | None]) -> Any:
        import tensorflow as tf
        from tensorflow.python.framework import function_def_to_graph

        key = (name, tuple(shapes))
        if key not in self._made:
            with self._graph.as_default():
                self._made[key] = function_def_to_graph.function_def_to_graph(
                    self._graph._get_function(name).cached_definition,
                    input_shapes=[tf.TensorShape(each) for each in shapes],
                )
        return self._made[key]
