"""Loops that pass something from one row to the next, or treat rows by their position, are found to mix rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes.row_walk import of_tensorflow  # noqa: E402

Row = Callable[[Any, Any], Any]


def _why_mixed(function: Callable[[Any], Any]) -> str:
    spec = tf.TensorSpec([None, 4], tf.float32)
    graph = tf.function(function, input_signature=[spec]).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[:1], graph.outputs)


def _over_rows(row: Row, limit: Callable[[Any], Any] = lambda n: n, step: int = 1, first: int = 0, **more: Any) -> Any:
    """A loop that writes a value for each row."""

    def model(x: Any) -> Any:
        n = tf.shape(x)[0]
        read = tf.TensorArray(tf.float32, n).unstack(x)
        write = tf.TensorArray(tf.float32, n, element_shape=[4])
        return tf.while_loop(
            lambda i, _: i < limit(n), lambda i, out: (i + step, out.write(i, row(read, i))), [first, write], **more
        )[1].stack()

    return model


def _maximum(x: Any) -> Any:
    n = tf.shape(x)[0]
    read, write = tf.TensorArray(tf.float32, n).unstack(x), tf.TensorArray(tf.float32, n, element_shape=[4])

    def body(i: Any, largest: Any, out: Any) -> Any:
        larger = tf.maximum(largest, read.read(i))
        return i + 1, larger, out.write(i, larger)

    return tf.while_loop(lambda i, *_: i < n, body, [0, tf.zeros([4]), write])[2].stack()


def _doubling(x: Any) -> Any:
    n = tf.shape(x)[0]
    read, write = tf.TensorArray(tf.float32, n).unstack(x), tf.TensorArray(tf.float32, n, element_shape=[4])
    return tf.while_loop(
        lambda i, *_: i < n, lambda i, d, out: (i + 1, d * 2, out.write(i, read.read(i) * d)), [0, 1.0, write]
    )[2].stack()


def _shifted(x: Any) -> Any:
    """A value needs more rounds than are followed to get through all variables."""
    count = 20
    start = [tf.constant(0), *[tf.zeros([1, 4])] * count, tf.reduce_sum(x, 0, keepdims=True)]
    return x + tf.while_loop(lambda i, *_: i < 30, lambda i, *v: (i + 1, *v[1:], v[-1]), start)[1]


def _list_of_columns(x: Any) -> Any:
    columns = tf.TensorArray(tf.float32, tf.shape(x)[0], element_shape=[None])
    return x + tf.reduce_mean(columns.write(0, x[:, 0]).stack(), 0)[:, None]


MIXED: dict[str, Callable[[Any], Any]] = {
    "a running maximum": lambda x: tf.scan(tf.maximum, x, initializer=tf.zeros([4])),
    "the same as a loop": _maximum,
    "values by position": _over_rows(lambda read, i: read.read(i) + tf.nn.relu(tf.cast(i, tf.float32) - 5)),
    "values by another counter": _doubling,
    "the next row": _over_rows(lambda read, i: read.read(i + 1)),
    "the first row": _over_rows(lambda read, i: read.read(0)),
    "some rows": _over_rows(lambda read, i: read.read(i), limit=lambda n: tf.minimum(n, 8)),
    "a fixed number of rows": _over_rows(lambda read, i: read.read(i), limit=lambda _: 8),
    "limited iterations": _over_rows(lambda read, i: read.read(i), maximum_iterations=8),
    "every other row": _over_rows(lambda read, i: read.read(i), step=2),
    "rows but the first": _over_rows(lambda read, i: read.read(i), first=1),
    "a list as long as the batch": _list_of_columns,
    "too many variables": _shifted,
    "a choice by position": _over_rows(lambda read, i: tf.cond(i > 5, lambda: -read.read(i), lambda: read.read(i))),
    "a choice by the next row": _over_rows(
        lambda read, i: tf.cond(tf.reduce_any(read.read(i + 1) > 1), lambda: -read.read(i), lambda: read.read(i))
    ),
}


@pytest.mark.parametrize("what", MIXED)
def test_loops_that_can_mix_rows_are_found(what: str) -> None:
    assert _why_mixed(MIXED[what])


def test_a_loop_that_computes_each_row_alone_keeps_rows_apart() -> None:
    assert _why_mixed(_over_rows(lambda read, i: tf.nn.softmax(read.read(i)))) == ""
    assert _why_mixed(lambda x: tf.map_fn(lambda row: row * tf.reduce_sum(row), x)) == ""


def test_a_choice_in_a_loop_may_depend_on_the_row() -> None:
    assert (
        _why_mixed(lambda x: tf.map_fn(lambda row: tf.cond(tf.reduce_any(row > 1), lambda: -row, lambda: row), x)) == ""
    )
    constants = lambda row: tf.cond(row[0] > 1, lambda: tf.ones([4]), lambda: tf.zeros([4]))  # noqa: E731
    assert _why_mixed(lambda x: tf.map_fn(constants, x)) == ""
