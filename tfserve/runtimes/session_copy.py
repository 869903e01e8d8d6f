"""Copies a TensorFlow session for computations with fewer threads each: same graph, same weights in memory.

The threads of a session are fixed when it is created, and its variables belong to it. But a tensor that is read from
one session and assigned in another is not copied: the weights of both are the same memory. So models that write to
their variables must not be copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfserve.errors import Invalid, Unsupported
from tfserve.runtimes import devices
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.graph_names import OWN_SCOPE

_SCOPE = f"{OWN_SCOPE}copy"
_VARIABLE = "VarHandleOp"


def copy(session: Any, outputs: Iterable[str], *, threads: int) -> Any:
    """A session that computes these tensors, each call in this number of threads.

    Raises `Unsupported` for other state than variables of TensorFlow 2, `Invalid` if TensorFlow can't copy it.
    """
    import tensorflow as tf

    config = devices.session_config(tf, intra_op_parallelism_threads=threads, inter_op_parallelism_threads=-1)
    try:
        return _copy(tf, session, config, outputs)
    except tf.errors.OpError as error:
        raise Invalid(f"The session can't be copied: {cause(error)}.") from error


def _copy(tf: Any, session: Any, config: Any, outputs: Iterable[str]) -> Any:
    graph = session.graph
    variables = _variables(tf, graph, outputs)
    numbers = range(len(variables))
    scope = _import(tf, graph, _reads_and_assignments(tf, graph, variables), len(variables))
    values = _callable(session, fetch=[f"{scope}/read_{n}:0" for n in numbers])()
    copied = tf.compat.v1.Session(graph=graph, config=config)
    try:
        _callable(
            copied,
            feed=[f"{scope}/value_{n}:0" for n in numbers],
            target=[f"{scope}/assign_{n}" for n in numbers],
        )(*values)
    except BaseException:
        copied.close()
        raise
    return copied


def _import(tf: Any, graph: Any, definition: Any, count: int) -> str:
    """Adds the operations and returns their scope; those of an earlier copy are used again."""
    scope = f"{_SCOPE}_{count}"
    try:
        graph.get_operation_by_name(f"{scope}/assign_{count - 1}")
    except KeyError:
        graph._unsafe_unfinalize()  # what is added does not affect what the session computes
        try:
            with graph.as_default():
                tf.import_graph_def(definition, name=scope)
        finally:
            graph.finalize()
    return scope


def _variables(tf: Any, graph: Any, outputs: Iterable[str]) -> list[Any]:
    """The variables that the outputs depend on. Raises `Unsupported`."""
    pending = [graph.as_graph_element(name) for name in outputs]
    pending = [getattr(each, "op", each) for each in pending]
    seen: set[Any] = set()
    found = []
    while pending:
        operation = pending.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type == _VARIABLE:
            found.append(operation)
        elif _holds_state(tf, operation):
            raise Unsupported(f"{operation.name!r} ({operation.type}) can't be shared by two sessions.")
        pending += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return found


def _holds_state(tf: Any, operation: Any) -> bool:
    """Whether it is the origin of a resource or reference, such as a table, a queue or a variable of TensorFlow 1."""
    if operation.inputs or operation.type == "Placeholder":
        return False
    return any(tensor.dtype == tf.resource or tensor.dtype._is_ref_dtype for tensor in operation.outputs)


def _reads_and_assignments(tf: Any, graph: Any, variables: Iterable[Any]) -> Any:
    """A graph of its own: a handle with the same name refers to the same variable."""
    definition = tf.compat.v1.GraphDef()
    definition.versions.CopyFrom(graph.graph_def_versions)
    for n, variable in enumerate(variables):
        handle = definition.node.add()
        handle.CopyFrom(variable.node_def)
        handle.name = f"handle_{n}"
        dtype = variable.node_def.attr["dtype"]
        for name, op, inputs in (
            ("read", "ReadVariableOp", [f"handle_{n}"]),
            ("value", "Placeholder", []),
            ("assign", "AssignVariableOp", [f"handle_{n}", f"value_{n}"]),
        ):
            node = definition.node.add(name=f"{name}_{n}", op=op, input=inputs)
            node.attr["dtype"].CopyFrom(dtype)
    return definition


def _callable(session: Any, **names: list[str]) -> Any:
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    return session._make_callable_from_options(CallableOptions(**names))
