"""Following the rows of a batch takes a limited time and a limited amount of memory, whatever the graph is."""

from __future__ import annotations

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

from tfserve.runtimes.row_walk import of_tensorflow, walk  # noqa: E402


def _why_mixed(function: Any) -> str:
    spec = tf.TensorSpec([None, 4], tf.float32)
    graph = tf.function(function, input_signature=[spec]).get_concrete_function().graph
    return of_tensorflow.why_mixed(graph, graph.inputs[:1], graph.outputs)


def _nested(levels: int) -> Any:
    function = tf.function(lambda x: x + 1.0)
    for _ in range(levels):
        function = tf.function(lambda x, inner=function: inner(inner(x) * 2.0))
    return function


def test_a_function_is_followed_once_for_equal_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_OPERATIONS", 500)
    assert _why_mixed(_nested(8)) == ""  # 511 calls


def test_rows_are_found_to_be_mixed_in_the_second_of_two_calls() -> None:
    inner = tf.function(lambda x, axis: tf.reduce_max(x, axis, keepdims=True))
    assert _why_mixed(lambda x: x + inner(x, tf.constant(1))) == ""
    assert _why_mixed(lambda x: x + inner(x, tf.constant(1)) + inner(x, tf.constant(0)))


def test_a_large_graph_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_OPERATIONS", 20)
    assert _why_mixed(_nested(8)) == "its graph is too large to be followed"


@pytest.mark.parametrize("size", [lambda: tf.fill([1 << 30, 1 << 10], 1), lambda: tf.range(1 << 40)])
def test_large_constants_are_not_made(size: Any) -> None:
    assert _why_mixed(lambda x: tf.gather(x, tf.zeros_like(size()), axis=1)) == ""
