"""Restores the variables of a SavedModel before its graph is imported.

A session optimizes the whole graph for each new set of tensors that it computes, also for those of a saver and an
initialiser (0.2 s each for MobileNetV2). The optimizer leaves graphs below a certain size alone. So the variables are
restored by a small graph of our own, which has fewer nodes than that size, and the model's graph is added afterwards:
both mean the same variables, because a session finds them by their shared names.

A plan is made only where the saver of the file does nothing but assign tensors of the checkpoint. All other models are
restored by their own savers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfserve.runtimes.graph_state import functions_of

SCOPE = "tfserve_restore"

_RESTORES = frozenset({
    "AssignVariableOp", "Const", "Identity", "NoOp", "Placeholder", "PlaceholderWithDefault", "RestoreV2",
    "VarHandleOp",
})  # fmt: skip
"""All that a saver may consist of."""
_FILES = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "SaveSlices", "Save", "Restore", "RestoreSlice"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_ANONYMOUS = b"cd2c89b7-88b7-44c8-ad83-06c2a9158347"

Resource = tuple[bytes, bytes]
"""The container and the shared name of a variable."""


class _Assignment(NamedTuple):
    key: bytes
    handle: Any
    validate_shape: bool


@dataclass(frozen=True)
class RestorePlan:
    """Which tensor of the checkpoint each variable is restored from."""

    prefix: str
    assignments: tuple[_Assignment, ...]
    #: keys that the saver reads for nothing, with their types: if one is damaged, so is the checkpoint
    others: tuple[tuple[bytes, int], ...] = ()

    @property
    def restored(self) -> frozenset[Resource]:
        return frozenset(resource_of(each.handle) for each in self.assignments)

    def write_graph(self, graph: Any) -> None:
        """Writes the operations that restore the variables into an empty GraphDef; the last one is `target`."""
        keys = [each.key for each in self.assignments] + [key for key, _ in self.others]
        restore = _restore_nodes(graph, self.prefix, keys)
        done = graph.node.add(name=self.target, op="NoOp")
        for n, each in enumerate(self.assignments):
            attributes = each.handle.attr
            handle = graph.node.add(name=f"{SCOPE}/variable_{n}", op="VarHandleOp")
            for name in ("container", "shared_name", "dtype", "shape"):
                if name in attributes:  # reading a missing one would add it
                    handle.attr[name].CopyFrom(attributes[name])
            restore.attr["dtypes"].list.type.append(attributes["dtype"].type)
            assign = graph.node.add(
                name=f"{SCOPE}/assign_{n}", op="AssignVariableOp", input=[handle.name, f"{restore.name}:{n}"]
            )
            assign.attr["dtype"].CopyFrom(attributes["dtype"])
            assign.attr["validate_shape"].b = each.validate_shape
            done.input.append(f"^{assign.name}")
        restore.attr["dtypes"].list.type.extend(type_ for _, type_ in self.others)

    @property
    def target(self) -> str:
        return f"{SCOPE}/all"


def make(meta: Any, prefix: str) -> RestorePlan | None:
    """The plan for a MetaGraphDef whose checkpoint has this prefix; None where its own saver has to restore it."""
    top = {node.name: node for node in meta.graph_def.node}
    saver = top.get(meta.saver_def.restore_op_name)
    if saver is None:
        return None
    filename = _operation(meta.saver_def.filename_tensor_name)
    if saver.op in _CALLS:
        nodes, arguments = _called(meta, saver)
    else:
        nodes, arguments = _ancestors(top, saver), {}
    assignments = _assignments(nodes, arguments, top, filename)
    if not assignments or len({resource_of(each.handle) for each in assignments}) < len(assignments):
        return None
    assigned = {each.key for each in assignments}
    others = {key: type_ for key, type_ in _read_keys(nodes) if key not in assigned}
    return RestorePlan(prefix, tuple(assignments), tuple(others.items()))


def resource_of(handle: Any) -> Resource:
    """What a VarHandleOp's NodeDef refers to."""
    return _text(handle, "container"), _text(handle, "shared_name")


def without_savers(graph: Any, kept: Iterable[str]) -> list[Any]:
    """The functions of a GraphDef; those that only savers call have no body.

    They are half of a typical graph, which the optimizer would go through, and no request may run them. `kept` are the
    names of operations that may be computed, and whose functions are therefore complete.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    needed = _reachable([each for name in kept for each in _ancestors(nodes, nodes.get(name)).values()], functions)
    return [
        function if name in needed or not _uses_files(function, functions) else _without_body(function)
        for name, function in functions.items()
    ]


# --- reading the saver


def _called(meta: Any, saver: Any) -> tuple[Mapping[str, Any], dict[str, str]]:
    """The nodes of the function that a saver calls, and what is given for its arguments."""
    name = saver.attr["f"].func.name
    function = next((each for each in meta.graph_def.library.function if each.signature.name == name), None)
    if function is None:
        return {}, {}
    names = [argument.name for argument in function.signature.input_arg]
    return {node.name: node for node in function.node_def}, dict(zip(names, saver.input, strict=False))


def _assignments(
    nodes: Mapping[str, Any], arguments: Mapping[str, str], top: Mapping[str, Any], filename: str
) -> list[_Assignment]:
    """All assignments of a saver; none if it does anything else."""
    found = []
    for node in nodes.values():
        if node.op not in _RESTORES:
            return []
        if node.op == "AssignVariableOp":
            key = _key(nodes, arguments, node.input[1], filename)
            handle = top.get(_operation(_given(nodes, arguments, node.input[0])))
            if key is None or handle is None or not _is_shared(handle, node):
                return []
            found.append(_Assignment(key, handle, "validate_shape" in node.attr and node.attr["validate_shape"].b))
    return found


def _is_shared(handle: Any, assign: Any) -> bool:
    """Whether a session finds this variable by its shared name."""
    return (
        handle.op == "VarHandleOp"
        and _text(handle, "shared_name") not in (b"", _ANONYMOUS)
        and "dtype" in handle.attr
        and "dtype" in assign.attr
        and handle.attr["dtype"].type == assign.attr["dtype"].type
    )


def _key(nodes: Mapping[str, Any], arguments: Mapping[str, str], value: str, filename: str) -> bytes | None:
    """The name in the checkpoint of what an assignment takes; None if that is not a whole tensor of the checkpoint."""
    source = _given(nodes, arguments, value)
    restore = nodes.get(_operation(source))
    if restore is None or restore.op != "RestoreV2":
        return None
    prefix, names, slices = restore.input[:3]
    keys, parts = _strings(nodes.get(_operation(names))), _strings(nodes.get(_operation(slices)))
    position = int(source.rpartition(":")[2]) if ":" in source else 0
    if keys is None or parts is None or len(keys) != len(parts) or position >= len(keys) or parts[position]:
        return None
    return keys[position] if _operation(_given(nodes, arguments, prefix)) == filename else None


def _read_keys(nodes: Mapping[str, Any]) -> Iterator[tuple[bytes, int]]:
    """All that a saver reads, with the types."""
    for node in nodes.values():
        if node.op == "RestoreV2":
            keys = _strings(nodes.get(_operation(node.input[1]))) or []
            yield from zip(keys, node.attr["dtypes"].list.type, strict=True)


def _given(nodes: Mapping[str, Any], arguments: Mapping[str, str], name: str) -> str:
    """The tensor that is passed on by identities, or given for an argument."""
    while (node := nodes.get(_operation(name))) is not None and node.op == "Identity":
        name = node.input[0]
    return arguments.get(name, name)


def _strings(constant: Any) -> list[bytes] | None:
    """The elements of a constant vector of strings."""
    if constant is None or constant.op != "Const":
        return None
    tensor = constant.attr["value"].tensor
    count = tensor.tensor_shape.dim[0].size if len(tensor.tensor_shape.dim) == 1 else 1
    values = list(tensor.string_val)
    return values + values[-1:] * (count - len(values)) if values else None  # equal ones at the end are stored once


def _text(node: Any, name: str) -> bytes:
    """An attribute. Reading a missing one from a message would add it, and TensorFlow would refuse the graph."""
    value: bytes = node.attr[name].s if name in node.attr else b""
    return value


def _operation(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]


def _ancestors(nodes: Mapping[str, Any], end: Any) -> dict[str, Any]:
    """An operation, and all that it needs."""
    found: dict[str, Any] = {}
    pending = [end] if end is not None else []
    while pending:
        node = pending.pop()
        if node.name not in found:
            found[node.name] = node
            pending += [nodes[name] for name in map(_operation, node.input) if name in nodes]
    return found


# --- writing graphs


def _restore_nodes(graph: Any, prefix: str, keys: list[bytes]) -> Any:
    """The operation that reads all keys, whose types are still missing."""
    inputs = []
    for name, values, shape in (
        ("prefix", [prefix.encode()], []), ("keys", keys, [len(keys)]), ("slices", [b""] * len(keys), [len(keys)]),
    ):  # fmt: skip
        constant = graph.node.add(name=f"{SCOPE}/{name}", op="Const")
        constant.attr["dtype"].type = _STRING
        tensor = constant.attr["value"].tensor
        tensor.dtype = _STRING
        tensor.string_val.extend(values)
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        inputs.append(constant.name)
    return graph.node.add(name=f"{SCOPE}/read", op="RestoreV2", input=inputs)


_STRING = 7
"""TensorFlow's number of its type."""


def _reachable(nodes: Iterable[Any], functions: Mapping[str, Any]) -> set[str]:
    """The functions that these nodes call, also indirectly."""
    found: set[str] = set()
    pending = [name for node in nodes for name in functions_of(node)]
    while pending:
        name = pending.pop()
        if name in functions and name not in found:
            found.add(name)
            pending += [each for node in functions[name].node_def for each in functions_of(node)]
    return found


def _uses_files(function: Any, functions: Mapping[str, Any]) -> bool:
    called = [function, *(functions[name] for name in _reachable(function.node_def, functions))]
    return any(node.op in _FILES for each in called for node in each.node_def)


def _without_body(function: Any) -> Any:
    """The same function for a graph, which fails when it is run."""
    empty = type(function)(signature=function.signature)
    for name, value in function.attr.items():
        empty.attr[name].CopyFrom(value)
    for n, output in enumerate(function.signature.output_arg):
        node = empty.node_def.add(name=f"nothing_{n}", op="Placeholder")
        node.attr["dtype"].type = output.type
        empty.ret[output.name] = f"{node.name}:output:0"
    for n, name in enumerate(function.signature.control_output):  # each with a node of its own, or it can't be copied
        empty.control_ret[name] = empty.node_def.add(name=f"done_{n}", op="NoOp").name
    return empty
