"""The walk through a graph shows which models keep the rows of a batch apart, whatever their values are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes.row_walk import of_tensorflow  # noqa: E402

Function = Callable[..., Any]


def why_mixed(function: Function, *specs: Any) -> str:
    signature = specs or [tf.TensorSpec([None, 4], tf.float32)]
    graph = tf.function(function, input_signature=signature).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[: len(signature)], graph.outputs)


def _unbounded(x: Any) -> Any:
    return tf.while_loop(lambda v: tf.reduce_any(v < 10.0), lambda v: (v * 2 + 1,), [x])[0]


def _asserting(condition: Function) -> Function:
    def asserting(x: Any) -> Any:
        tf.debugging.Assert(condition(x), [x])
        return x + 1.0

    return asserting


MIXING: dict[str, Function] = {
    "a threshold on the maximum": lambda x: x * tf.where(tf.reduce_max(x) > 10.0, 0.0, 1.0),
    "a condition on the sum": lambda x: tf.cond(tf.reduce_sum(x) > 10.0, lambda: x * 2, lambda: x),
    "a mean that counts from 5": lambda x: x + tf.nn.relu(tf.reduce_mean(x, 0, keepdims=True) - 5.0),
    "rows times rows": lambda x: tf.matmul(tf.matmul(x, x, transpose_b=True), x),
    "the same by letters": lambda x: tf.einsum("ij,kj,kl->il", x, x, x),
    "a sum along the batch": lambda x: x + tf.nn.relu(tf.cumsum(x) - 10),
    "sorted rows": lambda x: tf.sort(x, axis=0),
    "softmax over the batch": lambda x: tf.nn.softmax(x, axis=0),
    "the number of rows": lambda x: x * tf.where(tf.shape(x)[0] > 4, 2.0, 1.0),
    "a loop until all rows are done": _unbounded,
    "different values": lambda x: x + tf.cast(tf.size(tf.unique(tf.reshape(x, [-1]))[0]) > 90, tf.float32),
    "positions of large values": lambda x: x + tf.cast(tf.size(tf.where(x > 50.0)) > 0, tf.float32),
    "one list of everything": lambda x: x + tf.reduce_max(tf.reshape(x, [1, -1]), 1),
    "turned": lambda x: tf.reshape(tf.transpose(x), [-1, 4]),
    "moved rows": lambda x: tf.roll(x, 1, 0),
    "the first row": lambda x: x + tf.nn.relu(x[:1] - 3),
    "broadcast against itself": lambda x: tf.reduce_max(x[:, 0] - x[:, :1], 1, keepdims=True),
    "one row after the other": lambda x: tf.scan(tf.maximum, x),
    "a loop over rows that looks at another": lambda x: tf.map_fn(
        lambda n: x[n] + x[0], tf.range(tf.shape(x)[0]), fn_output_signature=tf.float32
    ),
    "random numbers": lambda x: x + tf.random.uniform(tf.shape(x)),
    "normalization in training mode": lambda x: tf.compat.v1.nn.fused_batch_norm(
        x[:, None, None, :], tf.ones([4]), tf.zeros([4]), is_training=True
    )[0],
    "the range of the batch": lambda x: tf.quantization.quantize_and_dequantize_v2(x, 0.0, 0.0, range_given=False),
    "an assertion that one row satisfies for all": _asserting(lambda x: tf.reduce_any(x > 0.0)),
    "an assertion about the sum": _asserting(lambda x: tf.reduce_sum(x) < 50.0),
}  # fmt: skip

APART: dict[str, Function] = {
    "sums in rows": lambda x: x / tf.reduce_sum(x, -1, keepdims=True) + tf.reduce_max(x, 1)[:, None],
    "sorted in rows": lambda x: tf.sort(x, axis=-1) + tf.cumsum(x, axis=1) + tf.reverse(x, [-1]),
    "split and joined": lambda x: tf.concat(tf.split(x, 2, axis=-1)[::-1], -1) * tf.nn.softmax(x),
    "products in rows": lambda x: tf.einsum("bi,bj->bij", x, x) + tf.matmul(x[:, :, None], x[:, None, :]),
    "gathered in rows": lambda x: tf.gather(x, tf.argsort(x), batch_dims=1),
    "rows in other shapes": lambda x: tf.reshape(tf.reduce_sum(tf.reshape(x, [-1, 2, 2]), 2), [tf.shape(x)[0], 2]),
    "a token for each row": lambda x: tf.concat([tf.tile(tf.ones([1, 1]), [tf.shape(x)[0], 1]), x], 1),
    "a loop over steps": lambda x: tf.transpose(tf.scan(lambda a, b: a + b, tf.transpose(x))),
    "a loop over rows": lambda x: tf.map_fn(lambda row: tf.where(tf.reduce_sum(row) > 1.0, row, -row), x),
    "an assertion about each value": _asserting(lambda x: tf.reduce_all(x >= 0.0)),
    "an assertion about the largest value": _asserting(lambda x: tf.reduce_max(x) < 100.0),
}


@pytest.mark.parametrize("what", MIXING)
def test_operations_that_can_mix_rows_are_found(what: str) -> None:
    assert why_mixed(MIXING[what])


@pytest.mark.parametrize("what", APART)
def test_rows_that_stay_apart_are_shown_to(what: str) -> None:
    assert why_mixed(APART[what]) == ""


def test_decoding_files_one_by_one_keeps_them_apart() -> None:
    def decode(file: Any) -> Any:
        return tf.image.resize(tf.io.decode_jpeg(file, channels=3), [4, 4])

    def model(files: Any) -> Any:
        images = tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec([4, 4, 3], tf.float32))
        return tf.matmul(tf.reshape(images, [-1, 48]), tf.ones([48, 2]))

    assert why_mixed(model, tf.TensorSpec([None], tf.string)) == ""


def test_texts_may_be_padded_to_a_fixed_length_only() -> None:
    def padded(shape: list[int | None] | None) -> Function:
        return lambda texts: tf.strings.length(tf.strings.split(texts).to_tensor("", shape=shape))

    spec = tf.TensorSpec([None], tf.string)
    assert why_mixed(padded([None, 6]), spec) == ""
    assert "longest" in why_mixed(padded(None), spec)


@pytest.fixture(scope="module")
def layers() -> Iterator[Any]:
    keras = pytest.importorskip("keras")
    yield keras.layers
    keras.backend.clear_session()


def test_ordinary_networks_keep_rows_apart(layers: Any) -> None:
    import keras

    image = keras.Sequential([
        keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, dilation_rate=2),
        layers.BatchNormalization(), layers.MaxPooling2D(), layers.SeparableConv2D(4, 3), layers.UpSampling2D(),
        layers.Conv2DTranspose(2, 3), layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(3, "softmax"),
    ])  # fmt: skip
    sequence = keras.Sequential([
        keras.Input((None, 4)), layers.Masking(), layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.LSTM(3), layers.Dense(1),
    ])  # fmt: skip
    tokens = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(10, 8)(tokens)
    attended = layers.LayerNormalization()(embedded + layers.MultiHeadAttention(2, 4)(embedded, embedded))
    transformer = keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(attended)))
    for model, shape, dtype in (
        (image, [None, 16, 16, 3], tf.float32), (sequence, [None, None, 4], tf.float32),
        (transformer, [None, 6], tf.int32),
    ):  # fmt: skip
        assert why_mixed(lambda x, model=model: model(x, training=False), tf.TensorSpec(shape, dtype)) == ""
    training = why_mixed(lambda x: image(x, training=True), tf.TensorSpec([None, 16, 16, 3], tf.float32))
    assert "Mean" in training or "random" in training


def test_tables_with_preprocessing_keep_rows_apart(layers: Any) -> None:
    city = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    age = layers.Normalization(mean=1.0, variance=2.0)
    count = layers.CategoryEncoding(5, output_mode="one_hot")

    def model(name: Any, years: Any, number: Any) -> Any:
        return tf.concat([tf.cast(each, tf.float32) for each in (city(name), age(years), count(number))], 1)

    specs = [tf.TensorSpec([None, 1], dtype) for dtype in (tf.string, tf.float32, tf.int64)]
    assert why_mixed(model, *specs) == ""
