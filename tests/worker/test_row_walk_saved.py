"""The rows of usual models stay apart in the graph that the server loads, which is not the one that was traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from tfserve.models import formats  # noqa: E402
from tfserve.runtimes import tensorflow  # noqa: E402
from tfserve.runtimes.row_walk import of_tensorflow  # noqa: E402

layers = keras.layers


def _why_mixed(tmp_path: Path, outputs: list[tuple[Any, Any]]) -> str:
    """Of Keras models with one input each, saved and loaded together."""
    keras.Model([each for each, _ in outputs], [each for _, each in outputs]).export(tmp_path / "m", verbose=False)
    model = tensorflow.load(formats.locate(str(tmp_path / "m")), device="/cpu:0")
    try:
        signature = model.signatures["serving_default"]
        return model.why_mixed(signature.input_names, [each.name for each in signature.outputs], "serving_default")
    finally:
        model.close()


def _applied(shape: tuple[int | None, ...], dtype: str, *chain: Any) -> tuple[Any, Any]:
    tensor = start = keras.Input(shape, dtype=dtype)
    for layer in chain:
        tensor = layer(tensor)
    return start, tensor


def test_loaded_keras_layers_keep_rows_apart(tmp_path: Path) -> None:
    weighted = layers.StringLookup(output_mode="tf_idf")
    weighted.adapt(np.array([["a", "b"], ["b", "c"]]))
    models = [
        _applied((3,), "int64", layers.IntegerLookup(vocabulary=[1, 2, 3], output_mode="multi_hot")),
        _applied((3,), "float32", layers.Discretization([0.0, 1.0], output_mode="multi_hot")),
        _applied((3,), "int64", layers.CategoryEncoding(5, output_mode="count")),
        _applied((2,), "string", weighted),
        _applied((20, 4), "float32", layers.Conv1D(3, 3, padding="causal", dilation_rate=2)),
        _applied((None, 4), "float32", layers.Conv1D(3, 3, dilation_rate=2), layers.Bidirectional(layers.LSTM(3))),
        _applied((5, 4), "float32", layers.TimeDistributed(layers.Dense(3)), layers.GRU(2)),
        _applied((16, 16, 3), "float32", layers.Conv2D(4, 3, dilation_rate=2), layers.BatchNormalization()),
        _applied((6,), "int32", layers.Embedding(10, 8), layers.LayerNormalization(), layers.GlobalMaxPooling1D()),
    ]
    assert _why_mixed(tmp_path, models) == ""


def test_a_loaded_layer_that_mixes_rows_is_found(tmp_path: Path) -> None:
    class Centred(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x - keras.ops.mean(x, axis=0, keepdims=True)

    assert "Mean" in _why_mixed(tmp_path, [_applied((4,), "float32", layers.Dense(3), Centred())])


def _example(feature: Any) -> Callable[[Any], Any]:
    return lambda texts: tf.io.parse_example(texts, {"a": feature})["a"]


_IMAGES = ([None, 6, 5, 3], tf.float32)
_OPEN_IMAGES = ([None, None, None, 3], tf.float32)
_TEXTS = ([None], tf.string)
_TABLE = ([None, 4], tf.float32)
APART: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "examples": (_TEXTS, _example(tf.io.FixedLenFeature([2], tf.float32))),
    "padded images": (_IMAGES, lambda x: tf.image.resize_with_pad(x, 8, 8)),
    "open images": (_OPEN_IMAGES, lambda x: tf.image.resize_with_pad(x, 8, 8)),
    "images of their own size": (
        _OPEN_IMAGES,
        lambda x: tf.image.resize(tf.image.resize(x, (4, 4)), tf.shape(x)[1:3]),
    ),
    "enlarged images": (_OPEN_IMAGES, lambda x: tf.image.resize(x, [tf.shape(x)[1] * 2, 7])),
    "shifted images": (_IMAGES, lambda x: tf.roll(x, [1, 2], [1, 2])),
    "matrices": (_TABLE, lambda x: tf.linalg.diag_part(tf.linalg.diag(x))),
    "their diagonals": (_TABLE, lambda x: tf.linalg.set_diag(x[:, :, None] * x[:, None, :], x)),
}
MIXED: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "features of any length": (
        _TEXTS, _example(tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)), "longest",
    ),
    "sparse features": (
        _TEXTS, lambda x: tf.sparse.to_dense(_example(tf.io.VarLenFeature(tf.float32))(x)), "different lengths",
    ),
    "images as large as the batch": (
        _OPEN_IMAGES, lambda x: tf.image.resize(x, tf.shape(x)[:2]), "depends on the batch",
    ),
    "shifted rows": (_TABLE, lambda x: tf.roll(x, 1, 0), "dimension of the rows"),
    "a diagonal across rows": (_TABLE, tf.linalg.diag_part, "dimension of the rows"),
    "added rows": (_TABLE, lambda x: tf.pad(x, [[1, 0], [0, 0]])[:-1], "adds rows"),
    "an open limit": (_TABLE, lambda x: x + tf.cast(
        tf.minimum(5, tf.maximum(4, tf.cast(tf.reduce_max(x), tf.int32))), tf.float32), "whole batch"),
}  # fmt: skip


def _traced(given: tuple[list[int | None], Any], function: Callable[[Any], Any]) -> str:
    graph = tf.function(function, input_signature=[tf.TensorSpec(*given)]).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[:1], graph.outputs)


@pytest.mark.parametrize("what", APART)
def test_usual_operations_keep_rows_apart(what: str) -> None:
    assert _traced(*APART[what]) == ""


@pytest.mark.parametrize("what", MIXED)
def test_the_same_operations_across_rows_are_found(what: str) -> None:
    given, function, why = MIXED[what]
    assert why in _traced(given, function)


def test_interleaved_rows_are_put_back_by_the_same_blocks_only() -> None:
    def spread(blocks: list[int]) -> Callable[[Any], Any]:
        return lambda x: tf.batch_to_space(tf.space_to_batch(x, [2, 2], [[0, 0]] * 2), blocks, [[0, 0]] * len(blocks))

    images = ([None, 4, 4, 1], tf.float32)
    assert _traced(images, spread([2, 2])) == ""
    assert _traced(images, lambda x: tf.reshape(spread([2, 1])(x), [-1, 16]))


def test_a_loop_of_tensorflow_1_is_named() -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.disable_control_flow_v2()
        try:
            x = tf.compat.v1.placeholder(tf.float32, [None, 4])
            y = tf.compat.v1.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), [tf.constant(0), x])[1]
        finally:
            tf.compat.v1.enable_control_flow_v2()
    assert "a loop of TensorFlow 1" in of_tensorflow.why_mixed(graph, [x], [y])
