"""Inputs that runtimes are compared with."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from tfserve.ipc.predictions import Ask, to_tensor
from tfserve.tensors import Shape, Signature, TensorSpec
from tfserve.worker import trial_inputs


def taking(dtype: str, shape: Shape | None) -> Signature:
    return Signature((TensorSpec("x", dtype, shape),), ())


def test_inputs_come_in_several_spreads_and_numbers_of_rows() -> None:
    made = list(trial_inputs.made_up(taking("float32", (-1, 2))))
    assert {spread for spread, _ in made} == {"normal", "unit", "octets"}
    assert [len(inputs["x"]) for _, inputs in made] == [1, 3, 8] * 3
    assert all(inputs["x"].dtype == np.float32 for _, inputs in made)
    octets = np.concatenate([inputs["x"] for spread, inputs in made if spread == "octets"])
    assert octets.max() > 100


def test_they_are_the_same_each_time() -> None:
    once, again = [list(trial_inputs.made_up(taking("float32", (-1, 2)))) for _ in range(2)]
    assert all(np.array_equal(a["x"], b["x"]) for (_, a), (_, b) in zip(once, again, strict=True))


def test_whole_numbers_stay_in_their_type_and_reach_beyond_32_bits_where_it_does() -> None:
    wide = [inputs["x"] for spread, inputs in trial_inputs.made_up(taking("int64", (-1, 50))) if spread == "wide"]
    assert np.abs(np.concatenate(wide)).max() > 2**31
    octets = [inputs["x"] for _, inputs in trial_inputs.made_up(taking("int8", (-1, 50)))]
    assert np.concatenate(octets).min() >= -128


def test_a_single_number_is_never_huge() -> None:
    assert all(abs(int(inputs["x"])) <= 255 for _, inputs in trial_inputs.made_up(taking("int64", ())))


def test_large_inputs_and_fixed_ones_are_tried_with_one_example() -> None:
    assert list(trial_inputs.rows_to_try(taking("float32", (-1, 4000, 4000)))) == [1]
    assert list(trial_inputs.rows_to_try(taking("float32", (4, 2)))) == [1]


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [("string", (-1,), "type string"), ("complex64", (-1,), "type complex64"), ("float32", None, "any shape"),
     ("float32", (-1, -1), "shape [-1, -1]")],
)  # fmt: skip
def test_what_can_not_be_made_up_is_told(dtype: str, shape: Shape | None, words: str) -> None:
    assert words in trial_inputs.why_not(taking(dtype, shape))


def test_requests_of_both_kinds_are_inputs_too_and_others_are_left_out() -> None:
    ask = Ask("s", ("x",), (to_tensor(np.array([b"a", b"b"], object)),), ())
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
