"""Requests are computed together only where that gives the same numbers; one bad request fails alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.models.runtime_reports import ConversionGuard
from tfserve.runtimes.echo import EchoModel
from tfserve.runtimes.guarded import Guarded
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec
from tfserve.worker.model.predictor import Predictor

Compute = Callable[[Array], Array]


class Computing(EchoModel):
    """One input, one output that is computed in numpy; remembers how many rows it was given each time."""

    def __init__(self, compute: Compute, shape: tuple[int, ...] = (-1, 2)) -> None:
        spec = TensorSpec("x", "float32", shape)
        super().__init__("echo", {DEFAULT_SIGNATURE: Signature((spec,), (spec,))})
        self.compute = compute
        self.calls: list[int] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        self.calls.append(len(inputs["x"]))
        return [self.compute(inputs["x"])]


def asking(rows: Any) -> bytes:
    return json.dumps({"fetches": "x", "feed_dict": {"x": rows}}).encode()


def predict(model: EchoModel, *rows: Any, **options: Any) -> list[Any]:
    requests = [asking(each) for each in rows]
    return [json.loads(each.result or each.error or b"") for each in Predictor(model, **options).predict(requests)]


def repeatedly(model: EchoModel, times: int, *rows: Any) -> list[list[Any]]:
    predictor = Predictor(model)
    requests = [asking(each) for each in rows]
    return [[json.loads(each.result or b"") for each in predictor.predict(requests)] for _ in range(times)]


ROWS = [[[1, 2]], [[3, 4], [5, 6]], [[7, 8]]]
DOUBLED = [[[[2, 4]]], [[[6, 8], [10, 12]]], [[[14, 16]]]]


def test_requests_go_together_once_that_was_shown_to_give_the_same() -> None:
    model = Computing(lambda x: 2 * x)
    assert repeatedly(model, 4, *ROWS) == [DOUBLED] * 4
    assert model.calls == [4, 1, 2, 1, 4, 1, 2, 1, 4, 4]


def test_a_model_that_mixes_rows_is_never_batched() -> None:
    model = Computing(lambda x: x - x.mean(axis=0))
    alone = [[[[0, 0]]], [[[-1, -1], [1, 1]]], [[[0, 0]]]]
    assert repeatedly(model, 4, *ROWS) == [alone] * 4
    assert model.calls == [4, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1]


def test_rows_that_mix_only_for_some_values_are_noticed_later() -> None:
    model = Computing(lambda x: x if x.max() < 10 else 0 * x)
    predictor = Predictor(model)
    for _ in range(7):
        assert json.loads(predictor.predict([asking([[1, 2]]), asking([[3, 4]])])[1].result or b"") == [[[3, 4]]]
    for _ in range(3):
        answers = predictor.predict([asking([[1, 2]]), asking([[10, 20]])])
        assert [json.loads(each.result or b"") for each in answers] == [[[[1, 2]]], [[[0, 0]]]]
    assert model.calls[-2:] == [1, 1]


def test_equal_requests_prove_nothing() -> None:
    model = Computing(lambda x: x - x.mean(axis=0))
    predictor = Predictor(model)
    same = [b'{"fetches": "x", "feed_dict": {"x": [[1, 2]]}}'] * 2
    for _ in range(5):
        predictor.predict(same)
    other = [b'{"fetches": "x", "feed_dict": {"x": [[1, 2]]}}', b'{"fetches": "x", "feed_dict": {"x": [[3, 4]]}}']
    assert [each.result for each in predictor.predict(other)] == [b"[[[0.0,0.0]]]"] * 2


def test_an_output_with_another_number_of_rows_is_never_split() -> None:
    model = Computing(lambda x: x.sum(axis=0, keepdims=True))
    assert repeatedly(model, 3, [[1, 2]], [[3, 4]]) == [[[[[1, 2]]], [[[3, 4]]]]] * 3


def test_float_noise_is_the_same_number() -> None:
    model = Computing(lambda x: x * np.float32(1 + len(x) * 1e-7))
    repeatedly(model, 4, [[1, 2]], [[3, 4]])
    assert model.calls[-1] == 2


def test_one_bad_request_in_a_batch_fails_alone() -> None:
    def positive(x: Array) -> Array:
        if (x < 0).any():
            raise Invalid("negative")
        return x

    model = Computing(positive)
    predictor = Predictor(model)
    good, bad = ([json.dumps({"fetches": "x", "feed_dict": {"x": [[n, n]]}}).encode()] for n in (1, -1))
    other = [b'{"fetches": "x", "feed_dict": {"x": [[5, 5]]}}']
    for _ in range(3):
        predictor.predict(good + other)
    answers = predictor.predict(good + bad + other)
    assert [answer.result for answer in answers] == [b"[[[1.0,1.0]]]", None, b"[[[5.0,5.0]]]"]
    assert json.loads(answers[1].error or b"")["message"] == "negative"


def test_a_request_that_does_not_fit_does_not_reach_the_model() -> None:
    model = Computing(lambda x: x)
    first, second, third = predict(model, [[1, 2]], [[1, 2, 3]], [[3, 4]])
    assert (first, third) == ([[[1, 2]]], [[[3, 4]]])
    assert second == {"code": "invalid", "message": "Input 'x' takes float32 of shape [-1, 2], got shape [1, 3]."}


def test_rows_of_different_shapes_are_computed_apart() -> None:
    model = Computing(lambda x: x, shape=(-1, -1))
    assert predict(model, [[1]], [[1, 2]], [[3]]) == [[[[1]]], [[[1, 2]]], [[[3]]]]
    assert 3 not in model.calls


def test_a_batch_is_bounded() -> None:
    model = Computing(lambda x: x)
    repeatedly(model, 4, *[[[n, n]] * 600 for n in range(3)])
    assert max(model.calls) <= 1200


def test_a_fixed_first_dimension_is_never_batched() -> None:
    model = Computing(lambda x: x, shape=(1, 2))
    repeatedly(model, 4, [[1, 2]], [[3, 4]])
    assert set(model.calls) == {1}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"{", "The predict request is not valid"),
        (b"[]", "The predict request is not valid"),
        (b'{"feed_dict": {}}', "missing required field `fetches`"),
        (b'{"fetches": 1}', "`$.fetches`"),
        (b'{"fetches": []}', "fetches is empty"),
        (b'{"fetches": "z"}', "'serving_default': 'x'"),
        (b'{"fetches": "x", "feed_dict": {"xx": 1}}', "did you mean 'x'?"),
        (b'{"fetches": "x"}', "is missing 'x'"),
        (b'{"fetches": "x", "signature": "serving"}', "Available: 'serving_default'"),
        (b'{"fetches": "x", "feed_dict": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
    ],
)
def test_a_bad_request_is_reported_what_is_wrong(request_: bytes, words: str) -> None:
    (answer,) = Predictor(Computing(lambda x: x)).predict([request_])
    error = json.loads(answer.error or b"")
    assert error["code"] == "invalid"
    assert words in error["message"]


def test_a_model_that_fails_in_an_unknown_way_fails_its_requests_only() -> None:
    def broken(x: Array) -> Array:
        raise MemoryError if x[0, 0] else ZeroDivisionError

    answers = [predict(Computing(broken), [[n, 0]])[0] for n in (0, 1)]
    assert [answer["code"] for answer in answers] == ["internal", "overloaded"]


def test_a_result_beyond_the_limit_is_refused_with_its_shape() -> None:
    (error,) = predict(Computing(lambda x: x), [[1, 2]] * 500, limit_bytes=1000)
    assert error["code"] == "too_large"
    assert "'x' of shape [500, 2]" in error["message"]


def test_only_the_first_are_answered_when_the_results_are_large_together() -> None:
    model = Computing(lambda x: x)
    requests = [asking([[float(n), 0.0]] * 10) for n in range(5)]
    size_bytes = len(Predictor(model).predict(requests[:1])[0].result or b"")
    assert len(Predictor(model, together_bytes=1).predict(requests)) == 1
    predictor = Predictor(model, together_bytes=2 * size_bytes)
    answered = [json.loads(each.result or b"") for each in predictor.predict(requests)]
    assert answered == [[[[float(n), 0.0]] * 10] for n in range(3)]
    assert len(predictor.predict(requests[3:])) == 2


def test_a_request_that_fails_keeps_its_place_among_those_that_are_answered() -> None:
    requests = [b"{}", asking([[1, 2]]), b"{}"]
    answers = Predictor(Computing(lambda x: x), together_bytes=1).predict(requests)
    assert [each.error is None for each in answers] == [False, True]


class Followed(Computing):
    """Its graph shows that rows may be mixed, which the values at hand don't."""

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        return f"{inputs}, {outputs} and {signature} depend on each other"


def test_a_model_whose_operations_can_mix_rows_is_never_batched() -> None:
    model = Followed(lambda x: 2 * x)
    assert repeatedly(model, 4, *ROWS) == [DOUBLED] * 4
    assert model.calls == [1, 2, 1] * 4


def test_a_converted_model_is_batched_only_if_its_original_may_be() -> None:
    for why, calls in (("Max", [1, 2, 1] * 4), ("", [4, 1, 2, 1, 4, 1, 2, 1, 4, 4])):
        model = Computing(lambda x: 2 * x)
        guarded = Guarded(model, ConversionGuard(why_mixed=why))
        predictor = Predictor(guarded)
        for _ in range(4):
            predictor.predict([asking(each) for each in ROWS])
        assert model.calls == calls
