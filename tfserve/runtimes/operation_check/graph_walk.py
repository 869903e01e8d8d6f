"""Walks through a TensorFlow graph and its functions, and finds the unsafe operations that can run.

An operation that reads a file is safe if the file's name is known and belongs to the model: an asset, or a constant.
So are the operations with which a model's saver restores its variables. A name may pass through functions, and through
variables that nothing else writes to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tfserve.runtimes.operation_check.findings import Finding
from tfserve.runtimes.operation_check.operations import (
    READS_FILES,
    RESTORES_CHECKPOINTS,
    Unsafe,
    file_of_attribute,
    table,
)

#: pass all of their inputs to a function
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
#: pass all but the first
_CHOICES = frozenset({"If", "StatelessIf", "_If", "Case", "StatelessCase"})
#: return their first input
_SAME = frozenset({"Identity", "PlaceholderWithDefault", "EnsureShape", "StopGradient", "Snapshot"})
_OBSERVES = frozenset({"ReadVariableOp", "VarIsInitializedOp", "VariableShape", "DisableCopyOnRead"})
#: make a cache in memory if their file has no name
_CACHES = frozenset({"CacheDataset", "CacheDatasetV2"})
_MAX_STEPS = 1000


class KnownFiles(NamedTuple):
    """A tensor whose value is known: names of files. `is_checkpoint` is the one that the saver restores from."""

    names: tuple[str, ...] = ()
    is_checkpoint: bool = False


class _Scope(NamedTuple):
    """A graph, or a function that was called with these arguments. The `fed` tensors have these values."""

    function: str
    nodes: Mapping[str, Any]
    arguments: Mapping[str, KnownFiles | None]
    fed: Mapping[str, KnownFiles]


class GraphWalk:
    """`is_own_file` decides whether a file belongs to the model; `assets` are the tensors that name its assets."""

    def __init__(self, graph: Any, is_own_file: Callable[[str], bool], assets: Mapping[str, KnownFiles]) -> None:
        self.findings: list[Finding] = []
        self._table = table()
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        self._is_own_file = is_own_file
        self._assets = assets
        self._alike = _alternatives(graph.library)
        self._relevant = self._relevant_functions()
        self._visited: set[tuple[str, tuple[KnownFiles | None, ...]]] = set()
        self._consumers: dict[str, list[Any]] = {}
        self._variables: dict[str, KnownFiles | None] = {}

    def run(self, names: Iterable[str], fed: Mapping[str, KnownFiles] | None = None) -> None:
        """Visits all operations that these tensors or operations need, while `fed` tensors have those values."""
        scope = _Scope("", self._nodes, {}, fed or {})
        pending, seen = [_operation(name) for name in names], set[str]()
        while pending:
            name = pending.pop()
            if name not in seen and (node := self._nodes.get(name)) is not None:
                seen.add(name)
                self._visit(scope, node)
                pending += map(_operation, node.input)

    def call(self, function: str, arguments: tuple[KnownFiles | None, ...]) -> None:
        """Visits all operations of a function and of those that may replace it."""
        for name in (function, *self._alike.get(function, ())):
            key = (name, arguments)
            if name in self._relevant and key not in self._visited:
                self._visited.add(key)
                definition = self._functions[name]
                names = [each.name for each in definition.signature.input_arg]
                given = arguments if len(arguments) == len(names) else (None,) * len(names)
                nodes = {node.name: node for node in definition.node_def}
                scope = _Scope(name, nodes, dict(zip(names, given, strict=True)), {})
                for node in definition.node_def:
                    self._visit(scope, node)

    # --- one operation

    def _visit(self, scope: _Scope, node: Any) -> None:
        is_function = node.op in self._functions
        unsafe = None if is_function else self._table.find(node.op)
        if unsafe is not None and not self._is_legitimate(scope, node, unsafe):
            self.findings.append(Finding(node.op, node.name, scope.function, unsafe.what))
        if is_function or node.op in self._table.calling:
            for function, inputs in _calls(node, is_function=is_function):
                if function in self._relevant:
                    self.call(function, tuple(self._files(scope, each) for each in inputs))

    def _is_legitimate(self, scope: _Scope, node: Any, unsafe: Unsafe) -> bool:
        if unsafe.attribute:
            name = file_of_attribute(unsafe, lambda: node.attr)
            return not name or (unsafe.category == READS_FILES and self._is_own_file(name))
        inputs = _data(node)
        if unsafe.category == RESTORES_CHECKPOINTS:
            files = self._files(scope, inputs[0]) if inputs else None
            return files is not None and files.is_checkpoint
        if node.op in _CACHES:
            return len(inputs) > 1 and self._files(scope, inputs[1]) == KnownFiles(("",))
        if unsafe.category != READS_FILES or not unsafe.inputs or max(unsafe.inputs) >= len(inputs):
            return False
        return all(self._are_own(self._files(scope, inputs[n])) for n in unsafe.inputs)

    def _are_own(self, files: KnownFiles | None) -> bool:
        return files is not None and bool(files.names) and all(map(self._is_own_file, files.names))

    # --- which files a tensor names

    def _files(self, scope: _Scope, tensor: str) -> KnownFiles | None:
        for _ in range(_MAX_STEPS):
            if (known := scope.fed.get(_tensor(tensor))) is not None:
                return known
            name = _operation(tensor)
            node = scope.nodes.get(name)
            if name in scope.arguments or node is None:
                return scope.arguments.get(name)
            if node.op == "Const":
                texts = node.attr["value"].tensor.string_val
                return KnownFiles(tuple(str(each, "utf-8", "replace") for each in texts)) if texts else None
            inputs = _data(node)
            if node.op == "ReadVariableOp" and not scope.function and inputs:
                return self._of_variable(_operation(inputs[0]))
            if node.op == "Placeholder" and not scope.function:
                return self._assets.get(_tensor(tensor))
            if node.op not in _SAME or not inputs:
                return None
            tensor = inputs[0]
        return None

    def _of_variable(self, name: str) -> KnownFiles | None:
        if name not in self._variables:
            self._variables[name] = None  # also while it is being found: a variable may be assigned from itself
            self._variables[name] = self._assigned(name)
        return self._variables[name]

    def _assigned(self, name: str) -> KnownFiles | None:
        """The files that are assigned to a variable; None if anything else may be."""
        node = self._nodes.get(name)
        if node is None or node.op != "VarHandleOp" or self._shared_names.count(_shared_name(node)) != 1:
            return None
        scope = _Scope("", self._nodes, {}, self._assets)
        found: list[str] = []
        for consumer in self._consumers_of(name):
            inputs = _data(consumer)
            if consumer.op == "AssignVariableOp" and _operation(inputs[0]) == name:
                files = self._files(scope, inputs[1])
                if files is None:
                    return None
                found += files.names
            elif not self._only_observes(consumer, lambda each: _operation(each) == name, set()):
                return None
        return KnownFiles(tuple(found)) if found else None

    def _only_observes(self, node: Any, is_handle: Callable[[str], bool], seen: set[tuple[str, int]]) -> bool:
        """Whether an operation, or the function that it calls, only reads the variable among its inputs."""
        if node.op in _OBSERVES:
            return True
        is_function = node.op in self._functions
        calls = list(_calls(node, is_function=is_function))
        if not calls or not (is_function or node.op in _CALLS | _CHOICES):
            return False
        return all(
            self._argument_is_observed(function, n, seen)
            for function, inputs in calls
            for n, each in enumerate(inputs)
            if is_handle(each)
        )

    def _argument_is_observed(self, function: str, position: int, seen: set[tuple[str, int]]) -> bool:
        if (function, position) in seen:
            return True
        seen.add((function, position))
        definition = self._functions.get(function)
        if definition is None or position >= len(definition.signature.input_arg):
            return False
        name = definition.signature.input_arg[position].name
        users = [node for node in definition.node_def if any(_operation(each) == name for each in _data(node))]
        return all(self._only_observes(node, lambda each: _operation(each) == name, seen) for node in users)

    def _consumers_of(self, name: str) -> list[Any]:
        if not self._consumers:
            consumers = defaultdict(list)
            for node in self._nodes.values():
                for each in {_operation(tensor) for tensor in _data(node)}:
                    consumers[each].append(node)
            self._consumers = dict(consumers)
        return self._consumers.get(name, [])

    @property
    def _shared_names(self) -> list[str]:
        """The names of all variables. Two with the same name are one."""
        inside = (node for function in self._functions.values() for node in function.node_def)
        found = [_shared_name(node) for node in (*self._nodes.values(), *inside) if node.op == "VarHandleOp"]
        several = [node.attr["shared_names"].list.s for node in self._nodes.values() if node.op == "_VarHandlesOp"]
        return [*found, *(str(each, "utf-8", "replace") for names in several for each in names)]

    # --- functions

    def _relevant_functions(self) -> set[str]:
        """The functions that contain unsafe operations, or call one that does."""
        callers, found = defaultdict[str, set[str]](set), set[str]()
        for name, function in self._functions.items():
            for node in function.node_def:
                is_function = node.op in self._functions
                if not is_function and self._table.find(node.op) is not None:
                    found.add(name)
                if is_function or node.op in self._table.calling:
                    for called, _ in _calls(node, is_function=is_function):
                        for each in (called, *self._alike.get(called, ())):
                            callers[each].add(name)
        pending = list(found)
        while pending:
            fresh = callers[pending.pop()] - found
            found |= fresh
            pending += fresh
        return found


def _alternatives(library: Any) -> dict[str, list[str]]:
    """For each function those that TensorFlow may run instead of it or with it: of the same interface, its gradient."""
    groups, found = defaultdict(list), defaultdict[str, list[str]](list)
    for function in library.function:
        if interface := bytes(function.attr["api_implements"].s) if "api_implements" in function.attr else b"":
            groups[interface].append(function.signature.name)
    for group in groups.values():
        for name in group:
            found[name] += [each for each in group if each != name]
    for gradient in library.gradient:
        found[gradient.function_name].append(gradient.gradient_func)
    return found


def _calls(node: Any, *, is_function: bool) -> Iterator[tuple[str, list[str]]]:
    """The functions that a node calls, each with the inputs that it passes unchanged and only once."""
    data = _data(node)
    if is_function:
        yield node.op, data
    passed = data if node.op in _CALLS else data[1:] if node.op in _CHOICES else []
    for value in node.attr.values():
        for each in (value.func, *value.list.func):
            if each.name:
                yield each.name, passed


def _shared_name(node: Any) -> str:
    given = str(bytes(node.attr["shared_name"].s), "utf-8", "replace") if "shared_name" in node.attr else ""
    return given or str(node.name)


def _data(node: Any) -> list[str]:
    return [name for name in node.input if not name.startswith("^")]


def _operation(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
