"""Finds a model's state in a TensorFlow session, saves it after loading, and restores it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfserve.runtimes.graph_names import OWN_SCOPE
from tfserve.runtimes.graph_state import GraphWrites, Writes
from tfserve.tensors.specs import Array

_SCOPE = f"{OWN_SCOPE}state"


class SessionState:
    """Created before the graph is finalised: saves the state that signatures write to.

    `writers` are the operations that change what later ones compute.
    """

    def __init__(self, tf: Any, session: Any, definition: Any) -> None:
        found = GraphWrites(definition.graph_def)
        self.writers = frozenset(found.by_operation)
        self._restore: Callable[..., object] | None = None
        self._values: list[Array] = []
        written = found.caused_by(_outputs(definition)) if self.writers else Writes()
        self.is_stateful = bool(written)
        self.can_reset = self.is_stateful and not written.others and self._remember(tf, session, written)

    def reset(self) -> None:
        """Restores the state after loading."""
        if self._restore is not None:
            # Copies: a variable may keep the memory of an assigned array.
            self._restore(*[value.copy() for value in self._values])

    def _remember(self, tf: Any, session: Any, written: Writes) -> bool:
        """Whether the whole state can be read and restored."""
        reads: list[Any] = []
        placeholders: list[Any] = []
        operations: list[Any] = []
        with tf.name_scope(_SCOPE):
            for name in sorted(written.variables):
                _add_variable(tf, session.graph.get_operation_by_name(name), reads, placeholders, operations)
            for name in sorted(written.tables):
                _add_table(tf, session.graph.get_operation_by_name(name), reads, placeholders, operations)
            restore = tf.group(*operations)
        try:
            self._values = [np.array(value) for value in session.run(reads)]
        except tf.errors.OpError:  # a variable has no value yet
            return False
        self._restore = session.make_callable(restore, feed_list=placeholders)
        return True


def _add_variable(tf: Any, variable: Any, reads: list[Any], placeholders: list[Any], operations: list[Any]) -> None:
    dtype = tf.dtypes.as_dtype(variable.get_attr("dtype"))
    placeholder = tf.compat.v1.placeholder(dtype)
    handle = variable.outputs[0]
    if variable.type == "VarHandleOp":
        reads.append(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype))
        operations.append(tf.raw_ops.AssignVariableOp(resource=handle, value=placeholder))
    else:
        reads.append(tf.identity(handle))
        operations.append(tf.compat.v1.assign(handle, placeholder, validate_shape=False).op)
    placeholders.append(placeholder)


def _add_table(tf: Any, table: Any, reads: list[Any], placeholders: list[Any], operations: list[Any]) -> None:
    dtypes = [tf.dtypes.as_dtype(table.get_attr(name)) for name in ("key_dtype", "value_dtype")]
    keys, values = map(tf.compat.v1.placeholder, dtypes)
    handle = table.outputs[0]
    reads.extend(tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=dtypes[0], Tvalues=dtypes[1]))
    operations.append(tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values))
    placeholders += [keys, values]


def _outputs(definition: Any) -> Sequence[str]:
    """The tensors that signatures compute; nothing else may write."""
    infos = [
        info
        for name, signature in definition.signature_def.items()
        if not name.startswith("__")
        for info in signature.outputs.values()
    ]
    return [name for info in infos for name in _tensors(info)]


def _tensors(info: Any) -> list[str]:
    """The names of a tensor's parts: one, or those of a sparse or composite one."""
    parts = [
        info.name, info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name,
        *(name for each in info.composite_tensor.components for name in _tensors(each)),
    ]  # fmt: skip
    return [name for name in parts if name]
