"""Sizes that depend on the number of rows, and operations without examples along their first dimension, are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes.row_walk import of_tensorflow  # noqa: E402


def _why_mixed(function: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 4), dtype: Any = None) -> str:
    spec = tf.TensorSpec(shape, dtype or tf.float32)
    graph = tf.function(function, input_signature=[spec]).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[:1], graph.outputs)


def _rows(x: Any) -> Any:
    return tf.shape(x)[0]


def _several(x: Any) -> Any:
    return 1 + tf.cast(_rows(x) > 4, tf.int32)


def _transposed_convolution(width: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def model(x: Any) -> Any:
        images = x[:, None, :, None]
        return tf.nn.conv2d_transpose(images, tf.ones([1, 2, 1, 1]), [_rows(x), 1, width(x), 1], [1, 1, 2, 1])

    return model


MIXED: dict[str, Callable[[Any], Any]] = {
    "columns by the number of rows": lambda x: tf.reduce_max(x[:, : _several(x)], 1),
    "parts by the number of rows": lambda x: tf.reduce_max(tf.split(x, [_several(x), 4 - _several(x)], 1)[0], 1),
    "a slice by the number of rows": lambda x: tf.reduce_max(tf.slice(x, [0, 0], [_rows(x), _several(x)]), 1),
    "images by the number of rows": _transposed_convolution(lambda x: 6 + _several(x)),
    "a fraction of the rows": lambda x: tf.reduce_sum(
        tf.reshape(x, [tf.cast(tf.cast(_rows(x), tf.float32) * 1.5, tf.int32), -1]), 1
    ),
    "the square of the rows": lambda x: tf.reduce_sum(tf.reshape(x, [_rows(x) * _rows(x), -1]), 1),
    "the same as a product": lambda x: tf.reduce_sum(tf.reshape(x, [tf.reduce_prod([_rows(x), _rows(x)]), -1]), 1),
    "a spectrogram of all rows": lambda x: tf.raw_ops.AudioSpectrogram(input=x, window_size=4, stride=2),
    "a sound of all rows": lambda x: tf.fill([_rows(x)], tf.audio.encode_wav(x, 8000)),
}


@pytest.mark.parametrize("what", MIXED)
def test_sizes_and_operations_that_can_mix_rows_are_found(what: str) -> None:
    assert _why_mixed(MIXED[what])


def test_sizes_of_the_other_dimensions_keep_rows_apart() -> None:
    assert _why_mixed(lambda x: tf.reduce_max(x[:, : tf.shape(x)[1] - 1], 1), (None, None)) == ""
    assert _why_mixed(lambda x: tf.slice(x, [0, 0], [_rows(x), 2])) == ""
    assert _why_mixed(_transposed_convolution(lambda _: 8)) == ""
    assert _why_mixed(lambda x: tf.reduce_sum(tf.reshape(x, [_rows(x) * 2, 2]), 1)) == ""


def test_hashing_needs_rows_along_the_first_dimension() -> None:
    def hashed(x: Any) -> Any:
        return tf.cast(tf.raw_ops.Fingerprint(data=x, method="farmhash64"), tf.float32)

    assert _why_mixed(hashed) == ""
    assert _why_mixed(lambda x: hashed(tf.transpose(x)))


def test_a_table_of_vectors_adds_a_dimension() -> None:
    table = tf.lookup.experimental.DenseHashTable(
        tf.int64, tf.float32, default_value=[0.0] * 4, empty_key=-1, deleted_key=-2
    )

    def model(keys: Any, reduce: Callable[[Any], Any]) -> Any:
        return reduce(tf.ensure_shape(table.lookup(keys), [None, 3, 4]))

    assert _why_mixed(lambda x: model(x, lambda v: tf.reduce_sum(v, 1)), (None, 3), tf.int64) == ""
    assert _why_mixed(lambda x: model(x, lambda v: v + tf.reduce_sum(v, 0)), (None, 3), tf.int64)
