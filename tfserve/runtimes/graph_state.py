"""Finds the operations of a TensorFlow graph that keep state between calls, and what they write to.

Nothing of TensorFlow is imported here; a GraphDef is handed in. Reads of variables and random
numbers do not count as state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_ASSIGN = re.compile(
    r"(Resource)?(Assign(Add|Sub)?|CountUpTo|StridedSliceAssign|Scatter(Nd)?(Add|Sub|Mul|Div|Min|Max|Update))"
    r"|Assign(Add|Sub)?VariableOp|(Resource)?(Sparse)?Apply[A-Z]\w*"
)
_INSERT = re.compile(r"LookupTable(Insert|Remove|Import)(V2)?")
_CONSUME = re.compile(
    r"Queue(Enqueue|Dequeue|Close)\w*|(OrderedMap|Map)?(Stage|Unstage)(NoKey|Clear)?|Barrier(InsertMany|TakeMany|Close)"
    r"|(Resource|Sparse)?Accumulator(ApplyGradient|TakeGradient|SetGlobalStep)|Reader(Read|Reset|RestoreState)\w*"
    r"|IteratorGetNext\w*"
)
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_TABLES = re.compile(r"Mutable(Dense)?HashTable(OfTensors)?(V2)?")
#: created in each call, so they keep no state
_PASSING = re.compile(r"Anonymous\w+|TemporaryVariable|GuaranteeConst")
#: return their first input
_SAME = re.compile(r"(Ref)?(Identity|Enter|Exit|Switch|Merge|NextIteration)|EnsureShape|_Arg")
#: pass all of their inputs to a function
_CALLS = frozenset({
    "PartitionedCall", "StatefulPartitionedCall", "RemoteCall", "While", "StatelessWhile", "_While", "For",
})  # fmt: skip
#: pass all but the first
_CHOICES = frozenset({"If", "StatelessIf", "_If", "Case", "StatelessCase"})
_ONLY_COMPUTE = frozenset({
    "Const", "ReadVariableOp", "VarHandleOp", "Identity", "Placeholder", "Conv2D", "DepthwiseConv2dNative", "MatMul",
    "AddV2", "Mul", "Sub", "RealDiv", "Relu", "Relu6", "BiasAdd", "FusedBatchNormV3", "Reshape", "Shape",
    "StridedSlice", "Pack", "Cast", "Rsqrt", "Transpose", "ExpandDims", "DisableCopyOnRead", "VarIsInitializedOp",
})  # fmt: skip
"""The most frequent operations, none of which writes or calls a function, so their attributes need not be read."""
_RANDOM = ("seed_generator_state", "StateVar")
"""Names of the variables with which Keras and `tf.random.Generator` count random numbers."""


@dataclass
class Writes:
    """The written state: variables and tables by the names of their operations, otherwise operation types."""

    variables: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.variables or self.tables or self.others)

    def add(self, more: Writes) -> None:
        self.variables |= more.variables
        self.tables |= more.tables
        self.others |= more.others


@dataclass(frozen=True)
class _Origin:
    """The operation that a resource comes from; without a name when it is inside a function."""

    op: str
    name: str = ""


_Origins = Callable[[str], _Origin | None]


class GraphWrites:
    """The operations of a graph that write, each with the state that it writes."""

    def __init__(self, graph_def: Any) -> None:
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._nodes = {node.name: node for node in graph_def.node}
        self._under_way: set[tuple[str, tuple[_Origin | None, ...]]] = set()
        #: all that write, also those that only save, restore or initialise
        self.by_operation: dict[str, Writes] = {}
        for node in graph_def.node:
            if found := self._of_node(node, lambda name: self._origin(self._nodes, name, {}, is_inside=False)):
                self.by_operation[node.name] = found

    def caused_by(self, outputs: Iterable[str]) -> Writes:
        """What is written when these tensors or operations are computed."""
        found, seen = Writes(), set()
        pending = [_operation(name) for name in outputs]
        while pending:
            name = pending.pop()
            if name in seen or name not in self._nodes:
                continue
            seen.add(name)
            found.add(self.by_operation.get(name, Writes()))
            pending += map(_operation, self._nodes[name].input)
        return found

    def _of_node(self, node: Any, origins: _Origins) -> Writes:
        found = Writes()
        if node.op in _ONLY_COMPUTE:
            return found
        if _ASSIGN.fullmatch(node.op):
            for name in node.input if "Apply" in node.op else node.input[:1]:
                _add_target(found, origins(name), is_certain=name == node.input[0])
        elif _INSERT.fullmatch(node.op) or _CONSUME.fullmatch(node.op):
            _add_target(found, origins(node.input[0]) if node.input else None, is_certain=True, op=node.op)
        for function in functions_of(node):
            found.add(self._of_function(function, _arguments(node, origins)))
        return found

    def _of_function(self, name: str, given: list[_Origin | None]) -> Writes:
        found = Writes()
        function, key = self._functions.get(name), (name, tuple(given))
        if function is None or key in self._under_way:
            return found
        self._under_way.add(key)
        names = [argument.name for argument in function.signature.input_arg]
        arguments = {each: given[n] if n < len(given) else None for n, each in enumerate(names)}
        nodes = {node.name: node for node in function.node_def}
        for node in function.node_def:
            found.add(self._of_node(node, lambda each: self._origin(nodes, each, arguments, is_inside=True)))
        self._under_way.discard(key)
        return found

    def _origin(
        self, nodes: Mapping[str, Any], name: str, arguments: Mapping[str, _Origin | None], *, is_inside: bool
    ) -> _Origin | None:
        for _ in range(1000):  # graphs of TF1 have loops
            name = _operation(name)
            if name in arguments:
                return arguments[name]
            node = nodes.get(name)
            if node is None:
                return None
            if not _SAME.fullmatch(node.op) or not node.input:
                return _Origin(node.op, "" if is_inside else node.name)
            name = node.input[0]
        return None


def _add_target(found: Writes, target: _Origin | None, *, is_certain: bool, op: str = "") -> None:
    """`is_certain` when that input is written to for sure."""
    if target is None:
        if is_certain:
            found.others.add(op or "a variable that is passed on")
    elif _PASSING.fullmatch(target.op) or any(word in target.name for word in _RANDOM):
        return
    elif target.op in _VARIABLES and target.name:
        found.variables.add(target.name)
    elif _TABLES.fullmatch(target.op) and target.name:
        found.tables.add(target.name)
    elif is_certain:
        found.others.add(op or target.op)


def _arguments(node: Any, origins: _Origins) -> list[_Origin | None]:
    data = [name for name in node.input if not name.startswith("^")]
    if node.op in _CHOICES:
        data = data[1:]
    return [origins(name) for name in data]


def functions_of(node: Any) -> list[str]:
    """The functions that a node calls. One that is called by its name is an operation of that name."""
    if node.op in _ONLY_COMPUTE:
        return []
    if node.op.startswith(("Save", "Restore")):
        return []
    named = [each for value in node.attr.values() for each in (value.func, *value.list.func) if each.name]
    return [*(each.name for each in named), node.op]


def _operation(name: str) -> str:
    """The operation that a name of a tensor, an input or a control input belongs to."""
    return name.removeprefix("^").partition(":")[0]
