"""Timing the calls of a model."""

from __future__ import annotations

import itertools

from tfserve.runtimes import call_latency
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Shape, Signature, TensorSpec


def echo(shape: Shape | None) -> EchoModel:
    spec = TensorSpec("x", "float32", shape)
    return EchoModel("echo", {DEFAULT_SIGNATURE: Signature((spec,), (spec,))})


def test_calls_are_timed_up_to_a_number_and_a_time() -> None:
    counter = itertools.count()
    assert len(call_latency.wall_times(lambda: next(counter), calls=5, limit_s=60)) == 5
    assert next(counter) == 5
    assert len(call_latency.wall_times(lambda: next(counter), calls=10**6, limit_s=1e-12)) == 1


def test_the_shortest_time_the_median_and_that_of_all_cores_are_measured() -> None:
    found = call_latency.measure(lambda: sum(range(1000)))
    assert 0 < found.best_s <= found.median_s
    assert found.cpu_s > 0


def test_a_model_is_timed_if_its_signature_leaves_only_the_rows_open() -> None:
    found = call_latency.of_model(echo((-1, 2)))
    assert found is not None
    assert 0 < found < call_latency.LIGHT_S
    assert call_latency.of_model(echo((-1, -1))) is None
    assert call_latency.of_model(echo(None)) is None
