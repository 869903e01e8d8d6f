"""The state of a model in a session of TensorFlow: found, remembered as it was loaded, and brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfserve.runtimes.graph_state import GraphWrites, Writes
from tfserve.tensors import Array

_SCOPE = "tfserve_state"


class SessionState:
    """Made before the graph is finished: what signatures write to is kept as it is then.

    `writers` are the operations that change what later ones compute.
    """

    def __init__(self, tf: Any, session: Any, definition: Any) -> None:
        found = GraphWrites(definition.graph_def)
        self.writers = frozenset(found.by_operation)
        self._restore: Callable[..., object] | None = None
        self._values: list[Array] = []
        written = found.behind(_outputs(definition)) if self.writers else Writes()
        self.is_stateful = bool(written)
        self.can_reset = self.is_stateful and not written.others and self._remember(tf, session, written)

    def reset(self) -> None:
        """Writes back what was there after loading."""
        if self._restore is not None:
            # Copies: a variable may take the memory that it is given for its own.
            self._restore(*[value.copy() for value in self._values])

    def _remember(self, tf: Any, session: Any, written: Writes) -> bool:
        """Whether all of it can be read, and be written back."""
        reads: list[Any] = []
        places: list[Any] = []
        operations: list[Any] = []
        with tf.name_scope(_SCOPE):
            for name in sorted(written.variables):
                _add_variable(tf, session.graph.get_operation_by_name(name), reads, places, operations)
            for name in sorted(written.tables):
                _add_table(tf, session.graph.get_operation_by_name(name), reads, places, operations)
            restore = tf.group(*operations)
        try:
            self._values = [np.array(value) for value in session.run(reads)]
        except tf.errors.OpError:  # one has no value yet
            return False
        self._restore = session.make_callable(restore, feed_list=places)
        return True


def _add_variable(tf: Any, variable: Any, reads: list[Any], places: list[Any], operations: list[Any]) -> None:
    dtype = tf.dtypes.as_dtype(variable.get_attr("dtype"))
    place = tf.compat.v1.placeholder(dtype)
    handle = variable.outputs[0]
    if variable.type == "VarHandleOp":
        reads.append(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype))
        operations.append(tf.raw_ops.AssignVariableOp(resource=handle, value=place))
    else:
        reads.append(tf.identity(handle))
        operations.append(tf.compat.v1.assign(handle, place, validate_shape=False).op)
    places.append(place)


def _add_table(tf: Any, table: Any, reads: list[Any], places: list[Any], operations: list[Any]) -> None:
    dtypes = [tf.dtypes.as_dtype(table.get_attr(name)) for name in ("key_dtype", "value_dtype")]
    keys, values = map(tf.compat.v1.placeholder, dtypes)
    handle = table.outputs[0]
    reads.extend(tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=dtypes[0], Tvalues=dtypes[1]))
    operations.append(tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values))
    places += [keys, values]


def _outputs(definition: Any) -> Sequence[str]:
    """The tensors that callers compute by signatures; nothing else may write."""
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
