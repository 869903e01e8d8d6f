"""ONNX models with recurrent layers refuse empty tensors, with which ONNX Runtime would end the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import onnxruntime

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def write(file: Path, layer: str, *, in_function: bool = False) -> Path:
    """`y`, the states of a recurrent layer of two units with three inputs; optionally called as a function."""
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    weights = [
        onnx.numpy_helper.from_array(np.ones((1, GATES[layer] * 2, size), np.float32), name)
        for name, size in (("w", 3), ("r", 2))
    ]
    node = helper.make_node(layer, ["x", "w", "r"], ["y"], hidden_size=2)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    if in_function:
        functions = [helper.make_function("local", "Layer", ["x", "w", "r"], ["y"], [node], versions[:1])]
        node = helper.make_node("Layer", ["x", "w", "r"], ["y"], domain="local")
    x = helper.make_tensor_value_info("x", float_, ["steps", "rows", 3])
    y = helper.make_tensor_value_info("y", float_, ["steps", 1, "rows", 2])
    graph = helper.make_graph([node], "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=versions, functions=functions, ir_version=9), file)
    return file


@pytest.mark.parametrize(("layer", "in_function"), [("GRU", False), ("LSTM", False), ("GRU", True)])
def test_empty_tensors_are_refused_for_recurrent_layers(tmp_path: Path, layer: str, in_function: bool) -> None:
    file = write(tmp_path / "m.onnx", layer, in_function=in_function)
    model = onnxruntime.load(formats.locate(file), device="/cpu:0")
    for shape in ((0, 1, 3), (1, 0, 3), (0, 0, 3)):
        with pytest.raises(Invalid, match="recurrent layer"):
            model.run({"x": np.zeros(shape, np.float32)}, ["y"], "serving_default")
    (states,) = model.run({"x": np.ones((2, 1, 3), np.float32)}, ["y"], "serving_default")
    assert states is not None
    assert states.shape == (2, 1, 1, 2)


def test_other_models_compute_empty_tensors(tmp_path: Path) -> None:
    model = onnxruntime.load(formats.locate(write(tmp_path / "m.onnx", "RNN")), device="/cpu:0")
    (states,) = model.run({"x": np.zeros((1, 0, 3), np.float32)}, ["y"], "serving_default")
    assert states is not None
    assert states.shape == (1, 1, 0, 2)


def test_an_input_that_no_recurrent_layer_uses_may_be_empty(tmp_path: Path) -> None:
    file = write(tmp_path / "m.onnx", "LSTM")
    model = onnx.load(file)
    helper, float_ = onnx.helper, onnx.TensorProto.FLOAT
    model.graph.node.insert(0, helper.make_node("Relu", ["before"], ["x"]))
    model.graph.node.append(helper.make_node("Relu", ["other"], ["z"]))
    del model.graph.input[:]
    model.graph.input.extend([
        helper.make_tensor_value_info("before", float_, ["steps", "rows", 3]),
        helper.make_tensor_value_info("other", float_, ["any"]),
    ])  # fmt: skip
    model.graph.output.append(helper.make_tensor_value_info("z", float_, ["any"]))
    onnx.save(model, file)
    loaded = onnxruntime.load(formats.locate(file), device="/cpu:0")
    given = {"before": np.ones((2, 1, 3), np.float32), "other": np.ones(0, np.float32)}
    states, other = loaded.run(given, ["y", "z"], "serving_default")
    assert states is not None
    assert other is not None
    assert other.shape == (0,)
    with pytest.raises(Invalid, match="recurrent layer"):
        loaded.run({**given, "before": np.ones((2, 0, 3), np.float32)}, ["y", "z"], "serving_default")
