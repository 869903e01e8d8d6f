"""Loads the graph and the variables of a SavedModel into a session. TensorFlow is handed in.

The usual way is TensorFlow's own loader. Where the variables can be restored beforehand (`restore_plan`), the model's
graph is only imported, which takes a third of the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import restore_plan, saved_model_file
from tfserve.runtimes.restore_plan import Resource, RestorePlan
from tfserve.runtimes.saved_model_file import Tensors

_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_INIT_OPERATION = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")

SHAPE_HINTS = "_output_shapes"


class Loaded(NamedTuple):
    """A MetaGraphDef in a session, its signatures, and the variables that certainly have a value."""

    definition: Any
    signatures: dict[str, Tensors]
    restored: frozenset[Resource] = frozenset()


class SavedModel:
    """The files of a SavedModel, with the meta graph of the lowest rank (`saved_model_file`). Raises `Invalid`."""

    def __init__(self, folder: Path, *, with_hints: bool = True) -> None:
        from tensorflow.python.saved_model.loader_impl import SavedModelLoader

        self._folder = folder
        self._loader = SavedModelLoader(str(folder))
        metas = self._loader._saved_model.meta_graphs
        if not metas:
            raise Invalid(f"{folder} is a SavedModel without a graph. Save it again.")
        self._meta = min(metas, key=lambda meta: saved_model_file.rank(meta.meta_info_def.tags))
        if any(node.op in _VARIABLES for node in self._meta.graph_def.node):
            formats.check_checkpoint(self._prefix, f"The SavedModel {folder}")
        if not with_hints:
            drop_hints(self._meta)

    def plan(self) -> RestorePlan | None:
        """How to restore its variables before its graph is imported; None where its own saver has to do that."""
        return restore_plan.make(self._meta, self._prefix)

    def load(self, session: Any, plan: RestorePlan | None = None, *, allow_unsafe: bool) -> Loaded:
        """Imports the graph and restores the variables; without a plan with TensorFlow's own loader.

        With `allow_unsafe`, requests may use files, so nothing is left out of the graph.
        """
        if plan is not None:
            return self._load_with(plan, session, allow_unsafe=allow_unsafe)
        tags = list(self._meta.meta_info_def.tags)
        return Loaded(self._loader.load(session, tags, clear_devices=True), self._signatures())

    def _load_with(self, plan: RestorePlan, session: Any, *, allow_unsafe: bool) -> Loaded:
        """The session must have the graph of the plan already."""
        from tensorflow.python.framework import meta_graph

        session.run(session.graph.get_operation_by_name(plan.target))
        meta_graph.import_scoped_meta_graph(self._meta if allow_unsafe else self._without_savers(), clear_devices=True)
        if self._has_initialiser():
            self._loader.run_init_ops(session, list(self._meta.meta_info_def.tags))
        return Loaded(self._meta, self._signatures(), plan.restored)

    @property
    def _prefix(self) -> str:
        return str(self._folder / "variables" / "variables")

    def _signatures(self) -> dict[str, Tensors]:
        binary = self._folder / "saved_model.pb"
        content = binary.read_bytes() if binary.is_file() else self._loader._saved_model.SerializeToString()
        return saved_model_file.of_saved_model(content, binary)

    def _without_savers(self) -> Any:
        meta, original = type(self._meta)(), self._meta
        for field, value in original.ListFields():
            if field.name not in ("graph_def", "object_graph_def", "signature_def"):
                getattr(meta, field.name).MergeFrom(value)
        kept = []
        for signature in original.signature_def.values():
            for info in (*signature.inputs.values(), *signature.outputs.values()):
                kept += [name for name in _names(info) if name]
        kept += self._initialisers()
        meta.graph_def.node.extend(original.graph_def.node)
        meta.graph_def.versions.CopyFrom(original.graph_def.versions)
        operations = [name.partition(":")[0] for name in kept]
        meta.graph_def.library.function.extend(restore_plan.without_savers(original.graph_def, operations))
        meta.graph_def.library.gradient.extend(original.graph_def.library.gradient)
        return meta

    def _initialisers(self) -> list[str]:
        """The operations that initialise tables and other state after the variables have been restored."""
        collections = self._meta.collection_def
        given = [key for key in _INIT_COLLECTIONS if key in collections]  # reading a missing one would add it
        found = [name for key in given for name in collections[key].node_list.value]
        if _INIT_OPERATION in self._meta.signature_def:
            found += [each.name for each in self._meta.signature_def[_INIT_OPERATION].outputs.values()]
        return found

    def _has_initialiser(self) -> bool:
        """Whether any of them does something."""
        named = {name.partition(":")[0] for name in self._initialisers()}
        return any(node.op != "NoOp" or node.input for node in self._meta.graph_def.node if node.name in named)


def add_plan(tf: Any, plan: RestorePlan, config: Any) -> None:
    """Adds a plan to the current graph, which is empty; a session with this `config` does not optimize it."""
    definition = tf.compat.v1.GraphDef()
    plan.write_graph(definition)
    tf.graph_util.import_graph_def(definition, name="")
    config.graph_options.rewrite_options.min_graph_nodes = len(definition.node) + 1
    # Its passes took a fifth of the first computation and changed neither numbers nor speed. A single iteration of all
    # others would save as much again, but makes EfficientNet slower by 7 %.
    config.graph_options.rewrite_options.disable_tfg_optimizer = True


def drop_hints(definition: Any) -> None:
    """Removes the shapes that an older TensorFlow inferred, which a newer one may contradict; it infers its own."""
    for node in definition.graph_def.node:
        node.attr.pop(SHAPE_HINTS, None)


def _names(info: Any) -> list[str]:
    """The tensors of a TensorInfo: one, or the parts of a sparse or composite one."""
    sparse = info.coo_sparse
    parts = [info.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    return parts + [name for each in info.composite_tensor.components for name in _names(each)]
