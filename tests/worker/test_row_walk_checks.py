"""Conditions, assertions and random numbers that affect several rows are found, also in graphs of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes.row_walk import of_tensorflow  # noqa: E402


def _why_mixed(function: Callable[[Any], Any]) -> str:
    spec = tf.TensorSpec([None, 4], tf.float32)
    graph = tf.function(function, input_signature=[spec]).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[:1], graph.outputs)


def _why_mixed_in_tensorflow_1(function: Callable[[Any], Any]) -> str:
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.disable_control_flow_v2()
        try:
            x = tf.compat.v1.placeholder(tf.float32, [None, 4])
            y = function(x)
        finally:
            tf.compat.v1.enable_control_flow_v2()
    return of_tensorflow.why_mixed(graph, [x], [y])


def _failing_if(condition: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def model(x: Any) -> Any:
        def fail() -> Any:
            tf.debugging.Assert(False, [x])
            return True

        with tf.control_dependencies([tf.cond(condition(x), fail, lambda: True)]):
            return x + 1.0

    return model


def _more_than_one(x: Any) -> Any:
    tf.debugging.assert_greater(tf.shape(x)[0], 1)
    return x + 1.0


@pytest.mark.parametrize(
    "model",
    [
        _more_than_one,
        _failing_if(lambda x: tf.reduce_all(x == 0.0)),
        _failing_if(lambda x: tf.reduce_max(x) < 0.5),
    ],
)
def test_assertions_that_one_row_satisfies_for_others_are_found(model: Callable[[Any], Any]) -> None:
    assert _why_mixed(model)


def test_random_numbers_of_a_called_function_are_found() -> None:
    drawn = tf.function(lambda: tf.random.uniform([4]))
    outer = tf.function(lambda: drawn() + 1.0)
    assert "random" in _why_mixed(lambda x: x + outer())
    constant = tf.function(lambda: tf.ones([4]))
    assert _why_mixed(lambda x: x + constant()) == ""


def _on_the_sum(x: Any) -> Any:
    return x * tf.compat.v1.cond(tf.reduce_sum(x) > 10, lambda: tf.constant(2.0), lambda: tf.constant(1.0))


def _with_a_loop(x: Any) -> Any:
    def looped() -> Any:
        return tf.compat.v1.while_loop(
            lambda i, _: i < 3, lambda i, a: (i + 1, a + tf.reduce_mean(a, 0)), [tf.constant(0), x]
        )[1]

    return tf.compat.v1.cond(tf.compat.v1.placeholder_with_default(True, []), looped, lambda: x)


@pytest.mark.parametrize("model", [_on_the_sum, _with_a_loop])
def test_branches_of_tensorflow_1_that_can_mix_rows_are_found(model: Callable[[Any], Any]) -> None:
    assert _why_mixed_in_tensorflow_1(model)


def test_a_branch_of_tensorflow_1_that_is_never_taken_does_not_count() -> None:
    def model(x: Any) -> Any:
        training = tf.constant(False)
        switched = tf.raw_ops.Switch(data=x, pred=training)
        return tf.raw_ops.Merge(inputs=[switched[0] * 2.0, switched[1] - tf.reduce_mean(switched[1], 0)])[0]

    assert _why_mixed_in_tensorflow_1(model) == ""


def test_a_fed_tensor_is_not_computed() -> None:
    graph = tf.Graph()
    with graph.as_default():
        one, other = tf.split(tf.compat.v1.placeholder(tf.float32, [4, 4]), 2, 1)
        total = tf.reduce_sum(one, 0) + tf.reduce_sum(other)
    assert "Sum" in of_tensorflow.why_mixed(graph, [one], [total])
