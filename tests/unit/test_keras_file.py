"""What a Keras file contains is read without Keras, and what would run code is refused before Keras sees it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest

from tfserve.errors import Invalid
from tfserve.runtimes import keras_file

DENSE = {"class_name": "Dense", "config": {"units": 1}}


def hdf5(folder: Path, config: Any, version: str | None = "2.15.0") -> Path:
    file = folder / "model.h5"
    with h5py.File(file, "w") as content:
        content.attrs["model_config"] = json.dumps(config)
        if version is not None:
            content.attrs["keras_version"] = version
    return file


def zipped(folder: Path, config: Any, version: str = "2.15.0") -> Path:
    file = folder / "model.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return file


def refusal(file: Path) -> str:
    with pytest.raises(Invalid) as caught:
        keras_file.read(file)
    assert caught.value.message.startswith(f"{file} can't be loaded: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("version", "is_legacy"),
    [("2.15.0", True), ("2.2.4-tf", True), ("1.2.2", True), (None, True), ("3.0.0", False), ("3.15.1", False)],
)
def test_the_version_says_which_keras_wrote_it(tmp_path: Path, version: str | None, is_legacy: bool) -> None:
    assert keras_file.read(hdf5(tmp_path, DENSE, version)).is_legacy == is_legacy
    if version:
        assert keras_file.read(zipped(tmp_path, DENSE, version)).is_legacy == is_legacy


LAMBDA = {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None], "function_type": "lambda"}}


@pytest.mark.parametrize(
    "layer",
    [
        LAMBDA,
        {"class_name": "TimeDistributed", "config": {"layer": LAMBDA}},
        {"class_name": "Sequential", "config": {"layers": [DENSE, {"class_name": "Model", "config": [LAMBDA]}]}},
        {"class_name": "keras.layers.Lambda", "config": {}},
        {"class_name": "Dense", "config": {"activation": {"class_name": "__lambda__", "config": {"value": "x"}}}},
        {"class_name": "Own", "config": {"function": "f", "function_type": "function"}},
        {"class_name": "Lambda", "registered_name": "keras>Lambda", "module": "keras.layers", "config": None},
    ],
)
def test_python_code_is_refused_however_deep_it_is(tmp_path: Path, layer: Any) -> None:
    for version in ("2.15.0", "3.15.1"):
        for file in (hdf5(tmp_path, [layer], version), zipped(tmp_path, {"layers": [layer]}, version)):
            assert "it has a Lambda layer, which contains Python code" in refusal(file)


def test_a_lambda_whose_code_was_not_saved_is_named_with_its_layer(tmp_path: Path) -> None:
    layer = {"class_name": "Conv1D", "config": {"name": "conv", "filters": 2, "activation": "<lambda>"}}
    message = refusal(hdf5(tmp_path, {"class_name": "Sequential", "config": {"layers": [DENSE, layer]}}))
    assert "its layer 'conv' has a Python lambda as activation, and the file does not contain its code" in message


CODE = {"value": ["4wEAAAA=", None, None]}


@pytest.mark.parametrize("version", ["2.21.0", "3.15.1"])
def test_a_lambda_whose_code_was_saved_is_named_with_its_layer(tmp_path: Path, version: str) -> None:
    config = {"layers": [DENSE, {"class_name": "Dense", "config": {"name": "scores", "activation": CODE}}]}
    for file in (hdf5(tmp_path, config, version), zipped(tmp_path, config, version)):
        message = refusal(file)
        assert "its layer 'scores' has a Python lambda as activation, which contains Python code" in message
        assert "does not contain its code" not in message


def test_what_only_looks_like_a_lambda_is_accepted(tmp_path: Path) -> None:
    for config in ({"name": "<lambda>"}, {"bias": {"value": [1, 2, 3]}}, {"bias": {"value": 0.5}}):
        layer = {"class_name": "Dense", "config": config}
        assert keras_file.read(zipped(tmp_path, layer)).config == layer


OWN = {"class_name": "Own", "module": "own", "config": {}}
LOSSES = [{"class_name": "__lambda__", "config": CODE}, "<lambda>", OWN]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_the_model_itself_is_not_checked(tmp_path: Path, loss: Any) -> None:
    """It is not used: the server does not train the model."""
    compiled = {**DENSE, "compile_config": {"loss": loss}}
    for version in ("2.21.0", "3.15.1"):
        assert keras_file.read(zipped(tmp_path, compiled, version)).config == DENSE
    file = hdf5(tmp_path, DENSE)
    with h5py.File(file, "a") as content:
        content.attrs["training_config"] = json.dumps({"loss": loss})
    assert keras_file.read(file).config == DENSE


def test_the_loss_of_a_model_inside_another_is_checked(tmp_path: Path) -> None:
    """Keras deserializes it with the layer. So it does for a whole model in HDF5."""
    compiled = {**DENSE, "compile_config": {"loss": LOSSES[0]}}
    for file in (zipped(tmp_path, {"config": {"layers": [compiled]}}), hdf5(tmp_path, compiled)):
        assert "contains Python code" in refusal(file)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"class_name": "function", "module": "os", "config": "system"}, "its class 'system' is not built into Keras"),
        ({"class_name": "Popen", "module": "subprocess", "config": {}}, "its class 'Popen' is not built into Keras"),
        (
            {"class_name": "function", "module": "keras.utils", "config": "get_file"},
            "function 'get_file' of keras.utils",
        ),
    ],
)
def test_what_is_not_of_keras_is_refused(tmp_path: Path, layer: Any, words: str) -> None:
    assert words in refusal(zipped(tmp_path, {"layers": [layer]}))


@pytest.mark.parametrize(
    "config",
    [
        {"function": "io.gfile.rmtree"},
        {"function": "io.write_file"},
        {"function": "io.read_file"},
        {"function": "compat.v1.py_func"},
        {"function": "py_function"},
        {"function": "raw_ops.WriteFile"},
        {"function": "saved_model.load"},
        {"function": "keras.models.load_model"},
        {"function": "keras.backend.function"},
        {"function": "load_op_library"},
        {"cls_symbol": "data.Dataset", "method_name": "list_files"},
        {"attr_name": "__class__"},
    ],
)
def test_an_operation_that_does_more_than_compute_is_refused(tmp_path: Path, config: Any) -> None:
    assert "is not on the list of functions without side effects" in refusal(
        hdf5(tmp_path, [{"class_name": "TFOpLambda", "config": config}])
    )


@pytest.mark.parametrize("operation", ["WriteFile", "ReadFile", "SaveV2", "PyFunc", "TFRecordDataset"])
def test_a_node_that_does_more_than_compute_is_refused(tmp_path: Path, operation: str) -> None:
    layer = {"class_name": "TensorFlowOpLayer", "config": {"node_def": {"name": "n", "op": operation}}}
    assert f"calls {operation!r}" in refusal(hdf5(tmp_path, [layer]))


@pytest.mark.parametrize(
    "function",
    ["math.add", "concat", "compat.v1.transpose", "nn.relu6", "image.resize", "__operators__.getitem", "reshape",
     "cast", "keras.backend.l2_normalize", "debugging.assert_equal", "compat.v1.nn.softmax", "keras.activations.swish"],
)  # fmt: skip
def test_an_operation_that_computes_is_accepted(tmp_path: Path, function: str) -> None:
    layer = {"class_name": "TFOpLambda", "config": {"function": function}}
    assert keras_file.read(hdf5(tmp_path, [layer])).config == [layer]


def test_another_hdf5_file_is_described(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as content:
        content["measurements"] = [1, 2]
    assert "an HDF5 file that contains no Keras model (it contains: measurements)" in refusal(tmp_path / "data.h5")


def test_an_archive_of_weights_is_called_that(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "it contains weights but no model" in refusal(tmp_path / "model.keras")
