"""Models whose operations reach outside them are refused before anything of them runs."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.client import pywrap_tf_session

from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import keras_file, operation_check
from tfserve.runtimes.operation_check import UnsafeOperations
from tfserve.runtimes.operation_check.operations import table

pytestmark = pytest.mark.filterwarnings("ignore")

v1 = tf.compat.v1


def found(path: Path) -> list[str]:
    return [f"{each.operation} {each.node}" for each in operation_check.find(formats.locate(str(path)))]


# --- the table


def registered() -> list[Any]:
    listed = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return list(listed.op)


def test_every_operation_of_tensorflow_is_classified_once() -> None:
    known, names = table(), {each.name for each in registered()}
    assert not known.computing & known.unsafe.keys()
    assert names == known.computing | known.unsafe.keys()
    calling = {each.name for each in registered() if any(a.type in ("func", "list(func)") for a in each.attr)}
    assert calling == known.calling


def test_the_inputs_and_attributes_that_select_files_exist() -> None:
    definitions = {each.name: each for each in registered()}
    for name, unsafe in table().unsafe.items():
        assert all(position < len(definitions[name].input_arg) for position in unsafe.inputs or ()), name
        assert not unsafe.attribute or unsafe.attribute in {each.name for each in definitions[name].attr}, name


def test_an_operation_that_names_a_file_or_address_is_not_classified_as_computing() -> None:
    """The names of inputs and attributes are evidence that does not depend on what the reviewer knew."""
    harmless = {"ShardedFilename", "ShardedFilespec", "RemoteCall"}
    suspicious = {
        each.name
        for each in registered()
        for part in (*each.input_arg, *(attribute for attribute in each.attr if "string" in attribute.type))
        if any(word in part.name for word in ("file", "path", "address", "url", "logdir"))
        and not part.name.startswith("profile")
    }
    assert suspicious & table().computing <= harmless


# --- SavedModels


class Vocabulary(tf.Module):
    def __init__(self, file: Path) -> None:
        super().__init__()
        words = tf.lookup.TextFileInitializer(
            str(file), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(words, -1)
        self.asset = tf.saved_model.Asset(str(file))
        self.weight = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def number(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": self.table.lookup(word), "text": tf.io.read_file(self.asset.asset_path)}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "words.txt").write_text("cat\ndog\n")
    model = Vocabulary(folder / "words.txt")
    tf.saved_model.save(model, str(folder / "model"), signatures=model.number)
    return (folder / "model" / "saved_model.pb").read_bytes()


def saved(folder: Path, content: bytes, change: Callable[[MetaGraphDef], None] = lambda _: None) -> Path:
    model = SavedModel.FromString(content)
    change(model.meta_graphs[0])
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    (folder / "assets" / "words.txt").write_text("cat\n")
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def test_tables_and_files_from_assets_are_safe_and_so_are_the_savers_operations(
    tmp_path: Path, vocabulary: bytes
) -> None:
    assert found(saved(tmp_path, vocabulary)) == []


def test_an_asset_outside_the_folder_is_not_safe(tmp_path: Path, vocabulary: bytes) -> None:
    (tmp_path / "words.txt").write_text("secret")

    def redirect(meta: MetaGraphDef) -> None:
        for each in meta.asset_file_def:
            each.filename = "../../words.txt"

    assert "InitializeTableFromTextFileV2" in str(found(saved(tmp_path / "a", vocabulary, redirect)))
    linked = saved(tmp_path / "b", vocabulary)
    (linked / "assets" / "words.txt").unlink()
    (linked / "assets" / "words.txt").symlink_to(tmp_path / "words.txt")
    assert "ReadFile" in str(found(linked))


def test_files_in_the_cache_of_a_model_hub_are_links_into_one_folder(tmp_path: Path, vocabulary: bytes) -> None:
    model = saved(tmp_path / "snapshot", vocabulary)
    (tmp_path / "blobs").mkdir()
    for n, file in enumerate((model / "saved_model.pb", model / "assets" / "words.txt")):
        file.rename(tmp_path / "blobs" / str(n))
        file.symlink_to(os.path.relpath(tmp_path / "blobs" / str(n), file.parent))
    assert found(model) == []


def test_a_second_value_of_an_assets_variable_is_not_safe(tmp_path: Path, vocabulary: bytes) -> None:
    def assign(meta: MetaGraphDef) -> None:
        node = meta.graph_def.node.add(name="evil", op="AssignVariableOp", input=["Variable", "evil_path"])
        node.attr["dtype"].type = 7
        path = meta.graph_def.node.add(name="evil_path", op="StringJoin", input=["saver_filename", "saver_filename"])
        path.attr["N"].i = 2

    def alias(meta: MetaGraphDef) -> None:
        node = next(each for each in meta.graph_def.node if each.op == "VarHandleOp" and each.name == "Variable_1")
        copy = meta.graph_def.node.add(name="copy", op="VarHandleOp")
        copy.attr["shared_name"].s = node.attr["shared_name"].s or node.name.encode()

    assert found(saved(tmp_path / "a", vocabulary, assign)) != []
    assert found(saved(tmp_path / "b", vocabulary, alias)) != []


def test_a_saver_that_restores_from_a_path_of_its_own_is_not_safe(tmp_path: Path, vocabulary: bytes) -> None:
    def redirect(meta: MetaGraphDef) -> None:
        path = meta.graph_def.node.add(name="evil", op="Const")
        path.attr["value"].tensor.string_val.append(b"/tmp/another/checkpoint")
        restore = next(each for each in meta.graph_def.node if each.name == meta.saver_def.restore_op_name)
        restore.input[0] = "evil"

    assert "RestoreV2 RestoreV2" in found(saved(tmp_path, vocabulary, redirect))


def test_a_function_that_may_replace_another_is_examined_too(tmp_path: Path, vocabulary: bytes) -> None:
    def alternative(meta: MetaGraphDef) -> None:
        called = next(each for each in meta.graph_def.library.function if "number" in each.signature.name)
        called.attr["api_implements"].s = b"number"
        other = meta.graph_def.library.function.add()
        other.CopyFrom(called)
        other.signature.name = "other"
        other.node_def.add(name="write", op="WriteFile", input=["a", "b"])

    assert "WriteFile write" in found(saved(tmp_path, vocabulary, alternative))


def test_what_no_signature_runs_is_not_refused(tmp_path: Path, vocabulary: bytes) -> None:
    def unused(meta: MetaGraphDef) -> None:
        meta.graph_def.node.add(name="unused", op="WriteFile", input=["saver_filename", "saver_filename"])
        function = meta.graph_def.library.function.add()
        function.signature.name = "unused"
        function.node_def.add(name="python", op="PyFunc")

    assert found(saved(tmp_path, vocabulary, unused)) == []


def test_an_initialiser_and_a_loaded_object_run_too(tmp_path: Path, vocabulary: bytes) -> None:
    def initialiser(meta: MetaGraphDef) -> None:
        meta.graph_def.node.add(name="evil", op="WriteFile", input=["saver_filename", "saver_filename"])
        init = meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name
        next(each for each in meta.graph_def.node if each.name == init.partition(":")[0]).input.append("^evil")

    def resource(meta: MetaGraphDef) -> None:
        creator = next(each for each in meta.graph_def.library.function if "creator" in each.signature.name)
        creator.node_def.add(name="evil", op="PyFunc")

    assert "WriteFile evil" in found(saved(tmp_path / "a", vocabulary, initialiser))
    assert "PyFunc evil" in found(saved(tmp_path / "b", vocabulary, resource))


def test_a_damaged_graph_is_refused_with_a_sentence(tmp_path: Path, vocabulary: bytes) -> None:
    model = saved(tmp_path, vocabulary)
    located = formats.locate(str(model))
    (model / "saved_model.pb").write_bytes(vocabulary[:-100])
    with pytest.raises(Invalid, match="is damaged: its graph can't be read"):
        operation_check.find(located)


# --- other formats of TensorFlow


def write_graph(graph: Any, file: Path) -> Path:
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


@pytest.mark.parametrize(
    ("add", "operation"),
    [
        (lambda x: tf.io.read_file("/etc/hostname"), "ReadFile"),
        (lambda x: tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[4], memory_region_name="/etc/hostname"), "Immut"),
        (lambda x: tf.raw_ops.DebugIdentityV2(input=x, debug_urls=["grpc://localhost:1"]), "DebugIdentityV2"),
        (lambda x: tf.print("text", output_stream="file:///tmp/printed"), "PrintV2"),
        (lambda x: tf.raw_ops.PyFunc(input=[x], token="a", Tout=[tf.float32]), "PyFunc"),
        (lambda x: tf.raw_ops.DatasetFromGraph(graph_def="a"), "DatasetFromGraph"),
        (lambda x: tf.print("text"), None),
        (lambda x: tf.data.Dataset.range(3).cache()._variant_tensor, None),
        (lambda x: tf.data.Dataset.range(3).cache("/tmp/cached")._variant_tensor, "CacheDataset"),
    ],
)
def test_all_operations_of_a_frozen_graph_count(tmp_path: Path, add: Callable[..., Any], operation: str | None) -> None:
    with v1.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None], name="x")
        add(x)
        tf.identity(x, name="y")
    names = found(write_graph(graph, tmp_path / "model.pb"))
    assert len(names) == (operation is not None)
    assert names == [] or names[0].startswith(str(operation))


def test_a_custom_operation_is_refused_with_a_sentence(tmp_path: Path) -> None:
    definition = v1.GraphDef()
    definition.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    definition.node.add(name="y", op="SentencepieceTokenizeOp", input=["x"])
    (tmp_path / "model.pb").write_bytes(definition.SerializeToString())
    with pytest.raises(Invalid, match="uses the operation 'SentencepieceTokenizeOp'"):
        operation_check.check(formats.locate(str(tmp_path / "model.pb")), allow=False)


def test_a_meta_graphs_table_may_read_a_file_next_to_it_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file, expected in ((folder / "words.txt", []), (tmp_path / "words.txt", ["InitializeTableFromTextFileV2"])):
        file.write_text("cat\n")
        with v1.Graph().as_default(), v1.Session() as session:
            v1.placeholder(tf.string, [], name="unused_path")
            words = tf.lookup.TextFileInitializer(
                str(file), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            tf.lookup.StaticHashTable(words, -1)
            v1.get_variable("w", initializer=1.0)
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(folder / "model"))
        names = found(folder / "model")
        assert [name.partition(" ")[0] for name in names] == expected


def test_tfjs_graphs_are_checked(tmp_path: Path) -> None:
    nodes = [
        {"name": "x", "op": "Placeholder"},
        {"name": "y", "op": "WriteFile", "input": ["x", "x"]},
        {"name": "z", "op": "Prelu", "input": ["x", "x"]},
    ]
    model = {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": []}
    (tmp_path / "model.json").write_text(json.dumps(model))
    assert found(tmp_path / "model.json") == ["WriteFile y"]


def test_litert_files_with_operations_of_tensorflow_are_checked(tmp_path: Path) -> None:
    for function, expected in ((tf.io.read_file, ["FlexReadFile operator code"]), (tf.strings.lower, [])):
        signature = [tf.TensorSpec([], tf.string)]
        call = tf.function(function, input_signature=signature).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        (tmp_path / "model.tflite").write_bytes(converter.convert())
        assert found(tmp_path / "model.tflite") == expected


# --- ONNX


def external(location: str) -> TensorProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    del tensor.float_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def onnx_file(folder: Path, where: str, location: str) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    tensor = external(location)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    functions = []
    if where == "attribute":
        nodes.append(constant)
    elif where == "subgraph":
        branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("w", 1, [1])])
        nodes.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    elif where == "function":
        functions = [helper.make_function("own", "f", [], ["w"], [constant], [helper.make_opsetid("", 18)])]
    graph = helper.make_graph(nodes, "g", [x], [y], [tensor] if where == "initializer" else [])
    model = helper.make_model(graph, functions=functions)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "function"])
def test_external_data_of_onnx_must_stay_inside_the_models_folder(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    (folder / "w.bin").write_bytes(bytes(4))
    (folder / "linked.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    assert found(onnx_file(folder, where, "w.bin")) == []
    outside = ("../secret.bin", str(tmp_path / "secret.bin"), "linked.bin", "up/secret.bin", "*/_ORT_MEM_ADDR_/*")
    for location in (*outside, str(folder / "w.bin"), "sub/../w.bin"):
        with pytest.raises(Invalid, match="outside the model's folder"):
            found(onnx_file(folder, where, location))


def test_onnx_operations_that_call_python_are_unsafe(tmp_path: Path) -> None:
    node = helper.make_node("PyOp", ["x"], ["y"], name="call", domain="ai.onnx.contrib")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(UnsafeOperations, match=r"ai\.onnx\.contrib\.PyOp \('call'\) calls Python code"):
        operation_check.check(formats.locate(str(tmp_path / "model.onnx")), allow=False)


# --- Keras


def test_a_keras_file_may_not_read_a_vocabulary_from_elsewhere(tmp_path: Path) -> None:
    layer = {"class_name": "StringLookup", "config": {"name": "words", "vocabulary": "/etc/passwd"}}
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
    with pytest.raises(Invalid, match="StringLookup layer reads its vocabulary from the file '/etc/passwd'"):
        keras_file.read(tmp_path / "model.keras")


@pytest.mark.parametrize("how", ["link", "external", "virtual"])
def test_the_weights_of_a_keras_file_may_not_be_in_another_file(tmp_path: Path, how: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["w"] = np.zeros(4)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
        group = file.create_group("model_weights")
        if how == "link":
            group["w"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "w")
        elif how == "external":
            group.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])
        else:
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (4,))
            group.create_virtual_dataset("w", layout)
    with pytest.raises(Invalid, match="its weights 'model_weights/w'"):
        keras_file.read(tmp_path / "model.h5")
