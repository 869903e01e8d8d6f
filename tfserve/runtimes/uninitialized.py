"""Initialises variables and tables that signatures need but that loading left without a value.

A session restores what the saver of the file restores. That is not always everything: Keras 3 models that were saved by
`tf.saved_model.save` have a second copy of each variable, the only one that the saver knows; other files have
tables or local variables without an initialiser. Here each of them gets a value, or its signatures are not offered.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tfserve.errors import Invalid
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.graph_state import GraphWrites
from tfserve.runtimes.interface import listed
from tfserve.runtimes.restore_plan import Resource, resource_of

log = logging.getLogger(__name__)

_SCOPE = "tfserve_initial"
_HANDLES = frozenset({"VarHandleOp"})
_REFERENCES = frozenset({"VariableV2", "Variable"})
_TABLES = {"HashTableV2": "LookupTableFindV2", "HashTable": "LookupTableFind"}
#: create a table from the graph itself; others read files
_TABLE_INITIALIZERS = frozenset({"InitializeTableV2", "InitializeTable", "LookupTableImportV2", "LookupTableImport"})
_CALLS = frozenset({"StatefulPartitionedCall", "PartitionedCall"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_MERGES = frozenset({"Merge", "RefMerge"})
_LOOPS = frozenset({"NextIteration", "RefNextIteration"})

Outputs = Mapping[str, Iterable[str]]
"""The tensors that each signature computes."""


class Completed(NamedTuple):
    """Why signatures are not available, and whether any value was missing before."""

    refused: Mapping[str, str] = MappingProxyType({})
    lacked_values: bool = False


def complete(
    tf: Any, session: Any, definition: Any, outputs: Outputs, saved_model: Path | None,
    *, restored: frozenset[Resource] = frozenset(),
) -> Completed:  # fmt: skip
    """Gives values to uninitialised variables and tables in the session's graph, which must not be finalised yet.

    `saved_model` is the folder, if the model is a SavedModel. `restored` certainly have a value. Raises `Invalid` if no
    signature can be computed.
    """
    resources = {name: _resources(session.graph, tensors) for name, tensors in outputs.items()}
    uncertain = [each for each in _union(resources.values()) if not _is_restored(each, restored)]
    missing = _without_value(tf, session, uncertain) if uncertain else []
    problem = ""
    lacked_values = bool(missing)
    if missing:
        _run_initializers(tf, session, missing)
        missing = _without_value(tf, session, missing)
    if missing and saved_model is not None and definition.HasField("object_graph_def"):
        problem = _copy_values(tf, session, definition, outputs, missing, saved_model)
        missing = _without_value(tf, session, missing)
    refused = _refused(session.graph, definition, outputs, missing, problem) if missing else {}
    return Completed(refused, lacked_values)


def _refused(graph: Any, definition: Any, outputs: Outputs, missing: Sequence[Any], problem: str) -> dict[str, str]:
    """A signature that does not need them, or that another one can initialise, is still available."""
    written = set()
    writes = GraphWrites(definition.graph_def)
    for tensors in outputs.values():
        found = writes.caused_by(tensors)
        written |= found.variables | found.tables
    refused = {}
    for name, tensors in outputs.items():
        needed = {each.name for each in _resources(graph, tensors, only_certain=True)}
        if lacks := [each.name for each in missing if each.name in needed - written]:
            refused[name] = (
                f"signature {name!r} is not available: neither the checkpoint nor an initialiser of the model has a"
                f" value for {listed(sorted(lacks), 5)}.{problem and f' {problem}'}"
            )
    if refused and len(refused) == len(outputs):
        raise Invalid(
            f"No signature of the model can be run: {next(iter(refused.values()))} Save the model again with all"
            " of its variables (tf.compat.v1.train.Saver without a list) and its initialisers (main_op); a Keras model"
            " with model.export(folder)."
        )
    return refused


# --- what the signatures need


def _resources(graph: Any, tensors: Iterable[str], *, only_certain: bool = False) -> list[Any]:
    """The variables and tables that the tensors need; `only_certain` leaves out those in branches of conditions."""
    pending = [graph.as_graph_element(name).op for name in tensors]
    seen = set(pending)
    while pending:
        operation = pending.pop()
        before = {each.op for each in _inputs(operation, only_certain=only_certain)} | {*operation.control_inputs}
        pending += before - seen
        seen |= before
    kinds = _HANDLES | _REFERENCES | _TABLES.keys()
    return sorted((each for each in seen if each.type in kinds), key=lambda each: str(each.name))


def _is_restored(resource: Any, restored: frozenset[Resource]) -> bool:
    return resource.type in _HANDLES and resource_of(resource.node_def) in restored


def _inputs(operation: Any, *, only_certain: bool) -> Sequence[Any]:
    inputs: Sequence[Any] = operation.inputs
    if only_certain and operation.type in _BRANCHES:
        return inputs[:1]
    is_choice = operation.type in _MERGES and not any(each.op.type in _LOOPS for each in inputs)
    return [] if only_certain and is_choice else inputs


def _union(groups: Iterable[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(each for group in groups for each in group))


def _without_value(tf: Any, session: Any, resources: Sequence[Any]) -> list[Any]:
    with tf.name_scope(_SCOPE):
        checks = {each: _check(tf, each) for each in resources}
        booleans = {each: check for each, check in checks.items() if each.type not in _TABLES}
        values = dict(zip(booleans, session.run(list(booleans.values())), strict=True))
        has_value = {each: values[each] if each in values else _is_filled(tf, session, checks[each]) for each in checks}
        return [each for each in resources if not has_value[each]]


def _check(tf: Any, resource: Any) -> Any:
    """A tensor that is true for a variable with a value; for a table one that can only be computed if it has one."""
    handle = resource.outputs[0]
    if resource.type in _HANDLES:
        return tf.raw_ops.VarIsInitializedOp(resource=handle)
    if resource.type in _REFERENCES:
        return tf.raw_ops.IsVariableInitialized(ref=handle)
    key, value = (tf.dtypes.as_dtype(resource.get_attr(name)) for name in ("key_dtype", "value_dtype"))
    find = getattr(tf.raw_ops, _TABLES[resource.type])
    return find(table_handle=handle, keys=tf.zeros([0], key), default_value=tf.zeros([], value))


def _is_filled(tf: Any, session: Any, lookup: Any) -> bool:
    with contextlib.suppress(tf.errors.FailedPreconditionError):
        session.run(lookup)
        return True
    return False


# --- where values come from


def _run_initializers(tf: Any, session: Any, missing: Sequence[Any]) -> None:
    """Those of tables, and of local variables, which no checkpoint holds. Others would give weights at random."""
    tables = [
        each
        for resource in missing
        for each in resource.outputs[0].consumers()
        if resource.type in _TABLES and each.type in _TABLE_INITIALIZERS
    ]
    names = {each.name for each in missing}
    local = [each.initializer for each in tf.compat.v1.local_variables() if each.op.name in names]
    for initializer in (*local, *tables):
        with contextlib.suppress(tf.errors.OpError):  # it needs another uninitialised value
            session.run(initializer)


def _copy_values(
    tf: Any, session: Any, definition: Any, outputs: Outputs, missing: Sequence[Any], saved_model: Path
) -> str:
    """Gives variables the values that `tf.saved_model.load` finds for them; returns the problem, if any.

    That loader follows the objects of the file instead of its saver. Both pass the same variables to the function of
    a signature, in the same order.
    """
    from tensorflow.python.eager import context

    try:
        with context.eager_mode():
            loaded = tf.saved_model.load(str(saved_model), tags=list(definition.meta_info_def.tags))
        copies = {
            variable: copy
            for name, tensors in outputs.items()
            if name in loaded.signatures
            for variable, copy in _paired(session.graph, tensors, loaded.signatures[name].captured_inputs)
        }
        _assign(tf, session, {variable: copies[variable] for variable in missing if variable in copies})
    except Exception as error:  # loading third-party files can raise anything
        log.debug("tf.saved_model.load can't restore %s either", saved_model, exc_info=True)
        return f"tf.saved_model.load can't restore it either: {cause(error)}."
    return ""


def _paired(graph: Any, tensors: Iterable[str], captured: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each variable of the graph that the function of these outputs takes, with its copy that has a value."""
    operations = {graph.as_graph_element(name).op for name in tensors}
    for operation in operations:
        if operation.type in _CALLS and captured:
            for tensor, copy in zip(operation.inputs[-len(captured) :], captured, strict=True):
                if tensor.op.type in _HANDLES:
                    yield tensor.op, copy


def _assign(tf: Any, session: Any, values: Mapping[Any, Any]) -> None:
    """One at a time, so that only one additional value is in memory."""
    from tensorflow.python.eager import context

    assignments = []
    with tf.name_scope(_SCOPE):
        for variable, copy in values.items():
            dtype = tf.dtypes.as_dtype(variable.get_attr("dtype"))
            value = tf.compat.v1.placeholder(dtype)
            assign = tf.raw_ops.AssignVariableOp(resource=variable.outputs[0], value=value)
            assignments.append((assign, value, copy, dtype))
    for assign, value, copy, dtype in assignments:
        with context.eager_mode():
            array = tf.raw_ops.ReadVariableOp(resource=copy, dtype=dtype).numpy()
        session.run(assign, {value: array})
