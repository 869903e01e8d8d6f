"""Writes small models in many formats, to try a server with: the documentation uses them.

    .venv/bin/python examples/small_models.py models half.onnx half.tflite     some of them, into the folder models
    .venv/bin/python examples/small_models.py models                           all of them

All `half` models compute y = x / 2 + 2 for rows of two numbers. `brightness.onnx` classifies images as light or dark.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def onnx_half(path: Path, add: float = 2.0) -> None:
    from numpy import float32
    from onnx import TensorProto, helper, numpy_helper, save

    half, two = (numpy_helper.from_array(float32(value), name) for name, value in (("half", 0.5), ("two", add)))
    nodes = [helper.make_node("Mul", ["x", "half"], ["halved"]), helper.make_node("Add", ["halved", "two"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "half", [x], [y], [half, two])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def onnx_half_and_three(path: Path) -> None:
    onnx_half(path, add=3.0)


def onnx_brightness(path: Path) -> None:
    """Images of 16 x 16 pixels, from 0 to 1 → `dark` and `light`. Its metadata describes how it takes image files."""
    from numpy import float32
    from onnx import TensorProto, helper, numpy_helper, save

    one = numpy_helper.from_array(float32([[1.0]]), "one")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["light4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["light4"], ["light"]),
        helper.make_node("Sub", ["one", "light"], ["dark"]),
        helper.make_node("Concat", ["dark", "light"], ["probabilities"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 16, 16, 3])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "brightness", [image], [probabilities], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    description = {"labels": ["dark", "light"], "scale": 1 / 255, "layout": "NHWC"}
    helper.set_model_props(model, {"tfserve.image": json.dumps(description)})
    save(model, path)


def photo(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), (250, 240, 200)).save(path)


def keras_file(path: Path) -> None:
    """`.keras` or `.h5`, by the suffix."""
    import keras
    import numpy as np

    x = keras.Input((2,), name="x")
    y = keras.layers.Dense(2, name="y")
    model = keras.Model(x, y(x))
    y.set_weights([np.float32([[0.5, 0.0], [0.0, 0.5]]), np.float32([2.0, 2.0])])
    model.save(path)


def saved_model(path: Path) -> None:
    """A folder of versions, as TensorFlow Serving wants it: version 1 adds 2, version 2 adds 3."""
    import tensorflow as tf

    class Half(tf.Module):
        def __init__(self, add: float) -> None:
            super().__init__()
            self.half, self.add = tf.Variable(0.5), tf.Variable(add)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x * self.half + self.add}

    for version, add in ((1, 2.0), (2, 3.0)):
        model = Half(add)
        tf.saved_model.save(model, str(path / str(version)), {"serving_default": model.serve})


def _graph() -> Any:
    """The computation as a TensorFlow 1 graph without variables."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        tf.add(x * tf.constant(0.5, name="half"), tf.constant(2.0, name="two"), name="y")
    return graph.as_graph_def()


def frozen_graph(path: Path) -> None:
    path.write_bytes(_graph().SerializeToString())


def litert(path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def half(x: Any) -> Any:
        return {"y": x / 2.0 + 2.0}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([half.get_concrete_function()])
    path.write_bytes(converter.convert())


def openvino(path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([-1, 2], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    y = ops.add(ops.multiply(x, ops.constant([0.5], ov.Type.f32)), ops.constant([2.0], ov.Type.f32))
    y.output(0).set_names({"y"})
    ov.save_model(ov.Model([y], [x], "half"), path, compress_to_fp16=False)


def tensorflow_js(folder: Path) -> None:
    """A graph model: the constants are in a file of weights."""
    import numpy as np
    from google.protobuf import json_format

    graph = json_format.MessageToDict(_graph())
    weights = [{"name": name, "shape": [], "dtype": "float32"} for name in ("half", "two")]
    model = {
        "format": "graph-model",
        "modelTopology": graph,
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": weights}],
    }
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(model))
    (folder / "group1-shard1of1.bin").write_bytes(np.float32([0.5, 2.0]).tobytes())


WRITERS: dict[str, Callable[[Path], None]] = {
    "half.onnx": onnx_half,
    "half-and-three.onnx": onnx_half_and_three,
    "brightness.onnx": onnx_brightness,
    "photo.png": photo,
    "half": saved_model,
    "half.keras": keras_file,
    "half.h5": keras_file,
    "half.pb": frozen_graph,
    "half.tflite": litert,
    "half.xml": openvino,
    "half-js": tensorflow_js,
}


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or WRITERS:
        if not (folder / name).exists():
            WRITERS[name](folder / name)
        print(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
