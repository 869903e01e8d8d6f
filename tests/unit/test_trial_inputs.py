"""Inputs that runtimes are compared with."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from tfserve.ipc.predictions import ComputeRequest, to_tensor
from tfserve.models.runtime_reports import ConversionGuard
from tfserve.runtimes.guarded import outside
from tfserve.tensors.specs import Array, Shape, Signature, TensorSpec
from tfserve.worker.trials import accepted_numbers, trial_inputs


def taking(dtype: str, shape: Shape | None) -> Signature:
    return Signature((TensorSpec("x", dtype, shape),), ())


def first_envelope(signature: Signature) -> trial_inputs.Envelope:
    return trial_inputs.envelopes(signature, {"x": accepted_numbers.type_limits(signature.inputs[0])})[0]


def ordinary(dtype: str, shape: Shape) -> list[Array]:
    signature = taking(dtype, shape)
    return [inputs["x"] for inputs in trial_inputs.ordinary(signature, first_envelope(signature))]


def test_ordinary_inputs_come_in_several_spreads_and_numbers_of_rows() -> None:
    made = ordinary("float32", (-1, 2))
    assert [len(array) for array in made] == [1, 3, 8] * len(trial_inputs.SPREADS)
    assert all(array.dtype == np.float32 for array in made)
    together = np.concatenate(made)
    assert together.max() > 100
    assert together.min() < -100
    assert any(not array.any() for array in made), "zeros"


def test_halves_and_whole_numbers_around_0_are_among_them() -> None:
    floats = np.concatenate(ordinary("float32", (-1, 9)))
    assert {-1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.5} <= set(floats.ravel().tolist())
    assert set(range(10)) <= set(np.concatenate(ordinary("int32", (-1, 4))).ravel().tolist())


@pytest.mark.parametrize(("shape", "values"), [((1,), [-1]), ((1, 4), [-1, 1, -2, 0]), ((8, 1), [-1, -2, -3, -4])])
def test_the_numbers_just_below_0_are_always_tried(shape: Shape, values: list[int]) -> None:
    tried = trial_inputs.varied({"n": np.zeros(shape, np.int64)}, {"n": (-1024, 1024)}, 1)
    assert set(values) <= set(np.concatenate([inputs["n"].ravel() for inputs in tried]).tolist())


def test_they_are_the_same_each_time() -> None:
    once, again = ordinary("float32", (-1, 2)), ordinary("float32", (-1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64"]
)
def test_envelopes_grow_to_all_that_a_type_has_and_numbers_stay_in_them(dtype: str) -> None:
    signature = taking(dtype, (-1, 50))
    base = {"x": ordinary(dtype, (-1, 50))[0]}
    envelopes = trial_inputs.envelopes(signature, {"x": accepted_numbers.type_limits(signature.inputs[0])})
    assert envelopes[-1]["x"] == accepted_numbers.type_limits(signature.inputs[0])
    for level, envelope in enumerate(envelopes):
        for inputs in trial_inputs.varied(base, envelope, level):
            assert inputs["x"].dtype == base["x"].dtype
            assert outside(ConversionGuard(dict(envelope)), inputs) is None


@pytest.mark.parametrize(("low", "high"), [(1, 12), (-5, -2), (1000, 2000), (0, 0)])
def test_what_a_model_does_not_take_is_never_made_up(low: int, high: int) -> None:
    for dtype in ("int32", "float32"):
        signature = taking(dtype, (-1, 20))
        for envelope in trial_inputs.envelopes(signature, {"x": (low, high)}):
            for inputs in trial_inputs.ordinary(signature, envelope):
                assert low <= inputs["x"].min() <= inputs["x"].max() <= high


def test_former_requests_are_tried_in_other_sizes_and_words_too() -> None:
    images = list(trial_inputs.relatives(taking("float32", (-1, -1, -1, 3)), {"x": np.zeros((1, 10, 7, 3))}))
    assert {array["x"].shape for array in images} == {
        (1, 5, 3, 3), (1, 11, 8, 3), (1, 23, 17, 3), (3, 10, 7, 3), (8, 10, 7, 3),
    }  # fmt: skip
    words = list(trial_inputs.relatives(taking("string", (-1,)), {"x": np.array([b"Good", b"\xff\xd8"], object)}))
    assert any(inputs["x"].tolist() == [b"gOOD", b"\xff\xd8"] for inputs in words)


def test_large_inputs_and_fixed_ones_are_tried_with_one_example() -> None:
    assert list(trial_inputs.rows_to_try(taking("float32", (-1, 4000, 4000)))) == [1]
    assert list(trial_inputs.rows_to_try(taking("float32", (4, 2)))) == [1]


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [("string", (-1,), "type string"), ("complex64", (-1,), "type complex64"), ("float32", None, "any shape"),
     ("float32", (-1, -1), "shape [-1, -1]")],
)  # fmt: skip
def test_what_can_not_be_made_up_is_reported(dtype: str, shape: Shape | None, words: str) -> None:
    assert words in trial_inputs.why_not(taking(dtype, shape))


def test_requests_of_both_kinds_are_inputs_too_and_others_are_left_out() -> None:
    ask = ComputeRequest("s", ("x",), (to_tensor(np.array([b"a", b"b"], object)),), ())
    samples = [
        json.dumps({"fetches": "y", "feed_dict": {"x": ["c"]}, "signature": "s"}).encode(),
        msgspec.msgpack.encode(ask),
        json.dumps({"fetches": "y", "feed_dict": {"x": ["c"]}}).encode(),
        json.dumps({"fetches": "y", "feed_dict": {"z:0": ["c"]}, "signature": "s"}).encode(),
        b"{",
        b"\x00",
    ]
    found = list(trial_inputs.from_samples("s", taking("string", (-1,)), samples))
    assert [inputs["x"].tolist() for inputs in found] == [[b"c"], [b"a", b"b"]]
