"""TensorFlow.js models: graphs with fused operations and layers models, with weights as their converter stores them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from google.protobuf import json_format

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import fingerprint, formats, tfjs
from tfserve.models.formats import Located
from tfserve.runtimes import saved_model_exports, tfjs_weights
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.specs import Array

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 4, 4, 2)).astype(np.float32)


def uniform(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def text(*values: str) -> dict[str, Any]:
    return {"list": {"s": [base64.b64encode(value.encode()).decode() for value in values]}}


def node(name: str, operation: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": operation, "input": list(inputs), "attr": attributes}


def constant(name: str, dtype: str = "DT_FLOAT") -> dict[str, Any]:
    return node(name, "Const", dtype={"type": dtype}, value={"tensor": {"dtype": dtype, "tensorShape": {}}})


def placeholder(name: str, *sizes: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(size)} for size in sizes]}
    return node(name, "Placeholder", dtype={"type": "DT_FLOAT"}, shape={"shape": shape})


def stored(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(each)) + each for each in array.ravel())


def write(
    folder: Path, topology: object, weights: Mapping[str, Array], *, name: str = "model.json",
    format_: str = tfjs.GRAPH, **more: object,
) -> Path:  # fmt: skip
    """Writes a model with its weights in two files, the first of which ends within an array."""
    folder.mkdir(exist_ok=True)
    content = b"".join(map(stored, weights.values()))
    half = len(content) // 2 + 1
    for n, part in enumerate((content[:half], content[half:])):
        (folder / f"group1-shard{n + 1}of2.bin").write_bytes(part)
    specs = [
        {"name": key, "shape": each.shape, "dtype": "string" if each.dtype == object else str(each.dtype)}
        for key, each in weights.items()
    ]
    manifest = [{"paths": ["group1-shard1of2.bin", "./group1-shard2of2.bin"], "weights": specs}]
    model = {"format": format_, "modelTopology": topology, "weightsManifest": manifest, **more}
    (folder / name).write_text(json.dumps(model))
    return folder / name


def edited(file: Path, **changes: object) -> Path:
    """With other values in the first of the weights' descriptions."""
    model = json.loads(file.read_text())
    model["weightsManifest"][0]["weights"][0].update(changes)
    file.write_text(json.dumps(model))
    return file


def load(path: Path) -> Runtime:
    return runtimes.load(formats.locate(str(path)), device="/cpu:0", measuring=None)


def run(model: Runtime, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
    return [each for each in model.run(inputs, outputs, "serving_default") if each is not None]


CONV = {
    "T": {"type": "DT_FLOAT"}, "data_format": {"s": base64.b64encode(b"NHWC").decode()},
    "strides": {"list": {"i": ["1", "1", "1", "1"]}}, "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
}  # fmt: skip
EXPLICIT = {
    **CONV,
    "padding": {"s": base64.b64encode(b"EXPLICIT").decode()},
    "explicit_paddings": {"list": {"i": ["0", "0", "2", "1", "0", "3", "0", "0"]}},
}
SAME = CONV | {"padding": {"s": base64.b64encode(b"SAME").decode()}}
WEIGHTS = {
    "conv": uniform(3, 3, 2, 4), "bias": uniform(4), "alpha": uniform(4), "depth": uniform(3, 3, 4, 2),
    "bias8": uniform(8), "sizes": np.array([-1, 200], np.int32), "dense": uniform(5, 200),
    "bias5": uniform(5),
}  # fmt: skip
ACTIVATIONS = {
    "Relu": tf.nn.relu, "Relu6": tf.nn.relu6, "Elu": tf.nn.elu, "Sigmoid": tf.sigmoid, "Tanh": tf.tanh,
    "LeakyRelu": lambda x: tf.nn.leaky_relu(x, 0.3),
}  # fmt: skip


def graph(activation: str) -> dict[str, Any]:
    return {
        "node": [
            placeholder("x", -1, 4, 4, 2), *(constant(name) for name in WEIGHTS if name != "sizes"),
            constant("sizes", "DT_INT64"),
            node("a", "_FusedConv2D", "x", "conv", "bias", "alpha", fused_ops=text("BiasAdd", "Prelu"), **EXPLICIT),
            node("b", "FusedDepthwiseConv2dNative", "a", "depth", "bias8", fused_ops=text("BiasAdd", "Relu6"), **SAME),
            node("c", "Reshape", "b", "sizes", T={"type": "DT_FLOAT"}, Tshape={"type": "DT_INT64"}),
            node("d", "_FusedMatMul", "c", "dense", "bias5", fused_ops=text("BiasAdd", activation),
                 T={"type": "DT_FLOAT"}, transpose_b={"b": True}, leakyrelu_alpha={"f": 0.3}),
            {"name": "e", "op": "Prelu", "input": ["d", "bias5"]},
        ],
        "versions": {"producer": 440},
    }  # fmt: skip


def expected(activation: str) -> tuple[Array, Array]:
    w = WEIGHTS
    a = tf.nn.conv2d(X, w["conv"], 1, [[0, 0], [2, 1], [0, 3], [0, 0]]) + w["bias"]
    a = tf.where(a < 0, a * w["alpha"], a)
    b = tf.nn.relu6(tf.nn.depthwise_conv2d(a, w["depth"], [1, 1, 1, 1], "SAME") + w["bias8"])
    d = ACTIVATIONS[activation](tf.reshape(b, [-1, 200]) @ w["dense"].T + w["bias5"])
    return d.numpy(), tf.where(d < 0, d * w["bias5"], d).numpy()


SIGNATURE = {
    "inputs": {"pixels": {"name": "x:0", "dtype": "DT_FLOAT"}},
    "outputs": {"hidden": {"name": "d:0"}, "price": {"name": "e:0"}},
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fused_operations_compute_what_the_plain_ones_compute(tmp_path: Path, activation: str) -> None:
    model = load(write(tmp_path, graph(activation), WEIGHTS, signature=SIGNATURE))
    assert model.format == formats.TFJS_GRAPH
    assert [spec.name for spec in model.signatures["serving_default"].inputs] == ["pixels"]
    for found, wanted in zip(run(model, {"pixels": X}, ["hidden", "price"]), expected(activation), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_openvino_computes_the_unfused_graph(tmp_path: Path) -> None:
    file = write(tmp_path / "js", graph("LeakyRelu"), WEIGHTS, signature=SIGNATURE)
    saved_model_exports.write(formats.locate(str(file)), tmp_path / "saved")
    located = Located(formats.SAVED_MODEL, tmp_path / "saved", None)
    model = runtimes.load(located, device="/cpu:0", runtime="openvino")
    np.testing.assert_allclose(run(model, {"pixels": X}, ["price"])[0], expected("LeakyRelu")[1], rtol=1e-4, atol=1e-4)


def test_a_hard_swish_keeps_its_own_constant(tmp_path: Path) -> None:
    """TensorFlow's optimizer would take 1/6, which is 2 in 10,000 more than the same number stored as float16."""
    sixth = np.float32(np.float16(1 / 6))
    weights = {"conv": WEIGHTS["conv"], "bias": uniform(4), "three": np.float32(3), "sixth": sixth}
    float32 = {"T": {"type": "DT_FLOAT"}}
    nodes = [
        placeholder("x", -1, 4, 4, 2), *map(constant, weights),
        node("conv2d", "Conv2D", "x", "conv", **SAME), node("biased", "BiasAdd", "conv2d", "bias", **float32),
        node("sum", "AddV2", "biased", "three", **float32), node("limited", "Relu6", "sum", **float32),
        node("part", "Mul", "limited", "sixth", **float32), node("y", "Mul", "biased", "part", **float32),
    ]  # fmt: skip
    topology = {"node": nodes, "versions": {"producer": 440}}
    model = load(write(tmp_path, topology, {name: np.asarray(each) for name, each in weights.items()}))
    biased = tf.nn.conv2d(X, weights["conv"], 1, "SAME").numpy() + weights["bias"]
    wanted = biased * np.clip(biased + 3, 0, 6) * sixth
    np.testing.assert_allclose(run(model, {"x": X}, ["y"])[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("curve", ["Erf", "Tanh"])
def test_a_gelu_keeps_its_own_constants(tmp_path: Path, curve: str) -> None:
    """TensorFlow's optimizer would take exact ones for those stored as float16."""
    rows, narrow = uniform(4, 16), {"Erf": 0.5**0.5, "Tanh": (2 / np.pi) ** 0.5}[curve]
    weights = {
        "dense": uniform(16, 8), "bias": uniform(8), "half": np.float32(0.5), "one": np.float32(1),
        "narrow": np.float32(np.float16(narrow)), "cubic": np.float32(np.float16(0.044715)),
    }  # fmt: skip
    float32 = {"T": {"type": "DT_FLOAT"}}
    nodes = [
        placeholder("x", -1, 16), *map(constant, weights),
        node("product", "MatMul", "x", "dense", **float32), node("biased", "BiasAdd", "product", "bias", **float32),
        node("square", "Square", "biased", **float32), node("cube", "Mul", "square", "biased", **float32),
        node("bent", "Mul", "cube", "cubic", **float32), node("bowed", "AddV2", "biased", "bent", **float32),
        node("inside", "Mul", "biased" if curve == "Erf" else "bowed", "narrow", **float32),
        node("curve", curve, "inside", **float32), node("sum", "AddV2", "curve", "one", **float32),
        node("part", "Mul", "biased", "half", **float32), node("y", "Mul", "part", "sum", **float32),
    ]  # fmt: skip
    topology = {"node": nodes, "versions": {"producer": 440}}
    signature = {"outputs": {"y": {"name": "y:0"}}}
    stored_as = {name: np.asarray(each) for name, each in weights.items()}
    model = load(write(tmp_path, topology, stored_as, signature=signature))
    y = rows.astype(np.float64) @ weights["dense"] + weights["bias"]
    inside = (y if curve == "Erf" else y + weights["cubic"] * y**3) * float(weights["narrow"])
    wanted = 0.5 * y * (1 + {"Erf": lambda x: tf.math.erf(x).numpy(), "Tanh": np.tanh}[curve](inside))
    np.testing.assert_allclose(run(model, {"x": rows}, ["y"])[0], wanted, atol=5e-6)


def test_a_graph_without_a_signature_has_its_placeholders_and_what_nothing_uses(tmp_path: Path) -> None:
    model = load(write(tmp_path, graph("Relu"), WEIGHTS, format_=""))
    signature = model.signatures["serving_default"]
    assert ([each.name for each in signature.inputs], [each.name for each in signature.outputs]) == (["x"], ["e"])


def test_an_older_converter_has_its_signature_in_the_metadata(tmp_path: Path) -> None:
    file = write(tmp_path, graph("Relu"), WEIGHTS, userDefinedMetadata={"signature": SIGNATURE})
    assert [each.name for each in load(file).signatures["serving_default"].outputs] == ["hidden", "price"]


def test_functions_in_the_graph_are_unfused_too(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
    def double(x: tf.Tensor) -> tf.Tensor:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(x), lambda: tf.negative(x))

    concrete = double.get_concrete_function()
    topology = json_format.MessageToDict(concrete.graph.as_graph_def())
    for function in topology["library"]["function"]:
        for each in function["nodeDef"]:
            if each["op"] == "Neg":
                each.update(op="Prelu", input=[each["input"][0], each["input"][0]])
    (output,) = concrete.outputs
    signature = {"inputs": {"x": {"name": "x:0"}}, "outputs": {"y": {"name": output.name}}}
    model = load(write(tmp_path, topology, {}, signature=signature))
    assert run(model, {"x": np.array([1, 2], np.float32)}, ["y"])[0].tolist() == [1, 2]
    assert run(model, {"x": np.array([-3, 2], np.float32)}, ["y"])[0].tolist() == [9, 2]


# --- weights


def test_quantized_weights_are_restored(tmp_path: Path) -> None:
    bytes_ = np.array([0, 7, 255], np.uint8)
    for dtype, quantized, wanted in (
        ("float32", np.uint8, [-1.5, 2.0, 126.0]), ("float32", np.uint16, [-1.5, 2.0, 126.0]),
        ("int32", np.uint8, [-1, 2, 126]), ("float32", np.float16, [0, 7, 255]),
    ):  # fmt: skip
        file = write(tmp_path, {"node": []}, {"w": bytes_.astype(quantized)})
        scale = {} if quantized is np.float16 else {"scale": 0.5, "min": -1.5}
        edited(file, dtype=dtype, quantization={"dtype": np.dtype(quantized).name, **scale})
        found = tfjs_weights.read(file, tfjs.read(file))["w"]
        assert (found.dtype.name, found.tolist()) == (dtype, wanted)


def test_strings_booleans_and_scalars_are_read(tmp_path: Path) -> None:
    words = np.array([[b"", "é".encode()], [b"abc", b"\0"]], object)
    weights = {"words": words, "flags": np.array([True, False]), "n": np.array(3, np.int32)}
    file = write(tmp_path, {"node": []}, weights)
    found = tfjs_weights.read(file, tfjs.read(file))
    assert {name: (each.shape, each.tolist()) for name, each in found.items()} == {
        name: (each.shape, each.tolist()) for name, each in weights.items()
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "float64"}, "dtype 'float64'. Expected: float32"),
        ({"quantization": {"dtype": "int4"}}, "quantized as 'int4'. Expected: uint8"),
        ({"dtype": "bool", "quantization": {"dtype": "uint8"}}, "of bool quantized as uint8"),
        ({"shape": [-3, 3]}, "no negative sizes"),
        ({"shape": [3, 3, 2, 5]}, "bytes in group1-shard1of2.bin"),
        ({"shape": "all"}, "can't be read"),
    ],
)
def test_weights_that_do_not_fit_their_description_are_refused_before_a_runtime_is_used(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        formats.locate(str(edited(write(tmp_path, graph("Relu"), WEIGHTS), **changes)))


def test_missing_truncated_and_foreign_files_of_weights_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "js", graph("Relu"), WEIGHTS)
    shard = tmp_path / "js/group1-shard2of2.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(Invalid, match="do not match: expected"):
        formats.locate(str(file))
    shard.unlink()
    with pytest.raises(Invalid, match=r"group1-shard2of2.bin is missing"):
        formats.locate(str(file))
    (tmp_path / "secret").write_bytes(content)
    for path in ("../secret", str(tmp_path / "secret"), "a/../../secret"):
        file.write_text(file.read_text().replace("./group1-shard2of2.bin", path))
        with pytest.raises(Invalid, match="outside its folder"):
            formats.locate(str(file))
        write(tmp_path / "js", graph("Relu"), WEIGHTS)


def test_a_model_is_found_by_its_folder_or_its_file_whatever_its_name(tmp_path: Path) -> None:
    file = write(
        tmp_path / "3", graph("Relu"), WEIGHTS, name="blazeface.json", userDefinedMetadata={"note": "x" * 5000}
    )
    (tmp_path / "3/labels.json").write_text('["cat", "dog"]')
    for path in (file, file.parent, tmp_path):
        found = formats.locate(str(path))
        assert (found.format, found.path, found.version) == (formats.TFJS_GRAPH, file, 3)
    write(tmp_path / "3", graph("Relu"), WEIGHTS, name="b.json")
    with pytest.raises(Invalid, match=r"several TensorFlow\.js models"):
        formats.locate(str(tmp_path))


def test_other_weights_are_another_model_to_the_cache_of_conversions(tmp_path: Path) -> None:
    file = write(tmp_path, graph("Relu"), WEIGHTS)
    before = fingerprint.fingerprint(file)
    shard = tmp_path / "group1-shard2of2.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert fingerprint.fingerprint(file) != before


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("t", "HashTableV2", key_dtype={"type": "DT_STRING"})], "the table 't'"),
        ([constant("lost")], "no weights for the constant 'lost'"),
        ([placeholder("x", 1), node("y", "_FusedConv2D", "x", "x", fused_ops=text("Gelu"))], "'Gelu'. Supported"),
        ([placeholder("x", 1), node("y", "_FusedMatMul", "x", "x", fused_ops=text("BiasAdd"))], "has 2 inputs"),
        ([placeholder("x", 1), node("y", "Prelu", "x")], "is a Prelu with 1 inputs"),
        ([placeholder("x", 1)], "has no output"),
        ([node("y", "NoSuchOperation")], "NoSuchOperation"),
        ([{"name": 3}], "not a TensorFlow graph"),
    ],
)
def test_a_graph_that_can_not_be_served_is_refused_with_the_cause(
    tmp_path: Path, nodes: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        load(write(tmp_path, {"node": nodes}, {}))


@pytest.mark.parametrize(
    ("nodes", "changes", "words"),
    [
        ([node("t", "LookupTableFindV2", "x")], {}, "the table 't'"),
        ([placeholder("x", 1)], {"modelInitializer": {"node": []}}, "a modelInitializer"),
    ],
)
def test_a_graph_with_tables_is_refused_before_a_runtime_is_used(
    tmp_path: Path, nodes: list[dict[str, Any]], changes: dict[str, Any], words: str
) -> None:
    file = write(tmp_path, {"node": nodes}, {}, **changes)
    with pytest.raises(Invalid, match=f"{words}, which TensorFlow.js fills.*deploy the SavedModel"):
        formats.locate(str(file))


# --- layers models


@pytest.fixture(scope="module")
def keras() -> Any:
    inputs = tf_keras.Input((5, 3), name="signal")
    x = tf_keras.layers.GRU(4, reset_after=False, return_sequences=True, name="gru")(inputs)
    x = tf_keras.layers.BatchNormalization(name="norm")(x)
    x = tf_keras.Sequential([tf_keras.layers.Dense(3, name="inner", input_shape=(5, 4))], name="nested")(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="risk")(x))
    model.set_weights([np.abs(uniform(*each.shape)) for each in model.get_weights()])
    return model


def layers(folder: Path, model: Any, config: object = None) -> Path:
    topology = {"keras_version": "tfjs-layers 4.22.0", "model_config": config or json.loads(model.to_json())}
    weights = {each.name.removesuffix(":0").replace("/gru_cell", ""): each.numpy() for each in model.weights}
    return write(folder, topology, weights, format_=tfjs.LAYERS)


def test_a_layers_model_computes_what_keras_computes(tmp_path: Path, keras: Any) -> None:
    model = load(layers(tmp_path, keras).parent)
    assert model.format == formats.TFJS_LAYERS
    x = uniform(2, 5, 3)
    np.testing.assert_allclose(run(model, {"signal": x}, ["risk"])[0], keras(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_layers_model_needs_exactly_its_weights(tmp_path: Path, keras: Any) -> None:
    file = edited(layers(tmp_path, keras), name="gru/other")
    with pytest.raises(Invalid, match=r"no weights for 'gru/gru_cell/kernel'.*gru/other"):
        load(file)


def test_code_in_a_layers_model_is_refused(tmp_path: Path, keras: Any) -> None:
    config = json.loads(keras.to_json())
    config["config"]["layers"][1]["class_name"] = "Lambda"
    with pytest.raises(Invalid, match="Lambda layer"):
        load(layers(tmp_path, keras, config))


def test_a_layers_model_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no model_config"):
        load(write(tmp_path, {"layers": []}, {}, format_=tfjs.LAYERS))
