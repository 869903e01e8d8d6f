"""Finds the unsafe operations in the graphs of TensorFlow: SavedModels, meta graphs, frozen graphs, TensorFlow.js.

Only what can run counts: what a signature computes, and what initialises and restores the model. The guard of requests
(`tfserve.runtimes.graph_guard`) keeps everything else from running.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from tfserve.models import tfjs
from tfserve.runtimes import saved_model_file
from tfserve.runtimes.operation_check import files, messages
from tfserve.runtimes.operation_check.findings import Finding
from tfserve.runtimes.operation_check.graph_walk import GraphWalk, KnownFiles

_INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
#: run for tables that are empty after loading (see `tfserve.runtimes.uninitialized`)
_TABLE_INITIALIZERS = frozenset({"InitializeTableV2", "InitializeTable", "LookupTableImportV2", "LookupTableImport"})
#: operations that TensorFlow.js adds, which are replaced when such a model is loaded
_TFJS_ONLY = frozenset({"FusedDepthwiseConv2dNative", "Prelu"})
#: the methods of a resource that TensorFlow calls when it loads a SavedModel as objects, as converters do
_RESOURCE_METHODS = frozenset({"_initializer", "_create_resource", "_initialize", "_destroy_resource"})


def of_saved_model(folder: Path) -> list[Finding]:
    file = folder / "saved_model.pb"
    if file.is_file():
        content = messages.parse("SavedModel", file.read_bytes())
    else:
        file = folder / "saved_model.pbtxt"
        content = text_format.Parse(file.read_text(), messages.new("SavedModel")(), allow_unknown_field=True)
    metas = sorted(content.meta_graphs, key=lambda meta: saved_model_file.rank(meta.meta_info_def.tags))
    return _of_meta(metas[0], folder, file) if metas else []


def of_meta_graph(file: Path) -> list[Finding]:
    return _of_meta(messages.parse("MetaGraphDef", file.read_bytes()), file.parent, file)


def of_frozen_graph(file: Path) -> list[Finding]:
    return _of_graph(messages.parse("GraphDef", file.read_bytes()), file)


def of_tfjs_graph(file: Path) -> list[Finding]:
    topology = tfjs.parse(file).model_topology
    try:
        graph: Any = json_format.ParseDict(topology, messages.new("GraphDef")(), ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError):
        return []  # TensorFlow can't read it either, and the message about that is better
    return [each for each in _of_graph(graph, file) if each.operation not in _TFJS_ONLY]


def _of_graph(graph: Any, file: Path) -> list[Finding]:
    """All of its operations: a graph alone does not say what it computes."""
    walk = GraphWalk(graph, partial(_is_own, folder=file.parent, model_file=file), {})
    walk.run(node.name for node in graph.node)
    return walk.findings


def _of_meta(meta: Any, folder: Path, file: Path) -> list[Finding]:
    assets = {
        _tensor(each.tensor_info.name): KnownFiles((str(folder / "assets" / each.filename),))
        for each in meta.asset_file_def
    }
    walk = GraphWalk(meta.graph_def, partial(_is_own, folder=folder, model_file=file), assets)
    walk.run(_initializers(meta), assets)
    if meta.saver_def.restore_op_name:
        saver = {_tensor(meta.saver_def.filename_tensor_name): KnownFiles(is_checkpoint=True)}
        walk.run([meta.saver_def.restore_op_name], saver)
    for name, signature in meta.signature_def.items():
        if name != _INIT_SIGNATURE:
            walk.run(_tensors(signature.outputs))
    for function, arguments in _object_functions(meta.object_graph_def, list(assets.values())):
        walk.call(function, arguments)
    return walk.findings


def _is_own(name: str, *, folder: Path, model_file: Path) -> bool:
    """TensorFlow resolves a relative name in the working directory of its process."""
    return files.is_inside(os.path.abspath(name), folder, model_file) if "://" not in name else False  # noqa: PTH100


def _initializers(meta: Any) -> Iterator[str]:
    if _INIT_SIGNATURE in meta.signature_def:
        yield from _tensors(meta.signature_def[_INIT_SIGNATURE].outputs)
    for name in _INIT_COLLECTIONS:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value
    if "local_variables" in meta.collection_def:
        for content in meta.collection_def["local_variables"].bytes_list.value:
            yield messages.parse("VariableDef", content).initializer_name
    yield from (node.name for node in meta.graph_def.node if node.op in _TABLE_INITIALIZERS)


def _tensors(infos: Mapping[str, Any]) -> Iterator[str]:
    for info in infos.values():
        sparse = info.coo_sparse
        parts = [each.name for each in info.composite_tensor.components]
        yield from filter(None, (info.name, sparse.values, sparse.indices, sparse.dense_shape, *parts))


def _object_functions(objects: Any, assets: list[KnownFiles]) -> Iterator[tuple[str, tuple[KnownFiles | None, ...]]]:
    """The functions that TensorFlow calls when it loads the objects of a SavedModel, with what they capture."""
    nodes = objects.nodes
    called = [child.node_id for node in nodes for child in node.children if child.local_name in _RESOURCE_METHODS]
    called += [each.restore_function for node in nodes for each in node.saveable_objects.values()]
    for n in called:
        if 0 <= n < len(nodes):
            node = nodes[n]
            names = [*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name]
            for name in filter(None, names):
                yield name, _captured(objects, name, assets)


def _captured(objects: Any, function: str, assets: list[KnownFiles]) -> tuple[KnownFiles | None, ...]:
    if function not in objects.concrete_functions:
        return ()
    bound = [objects.nodes[n] for n in objects.concrete_functions[function].bound_inputs if n < len(objects.nodes)]
    indices = [node.asset.asset_file_def_index if node.HasField("asset") else len(assets) for node in bound]
    return tuple(assets[n] if n < len(assets) else None for n in indices)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
