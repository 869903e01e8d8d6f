"""Which requests a converted model computes, and which are left to TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.models.runtime_reports import ConversionGuard
from tfserve.runtimes.guarded import Guarded, outside
from tfserve.runtimes.interface import OnlyTensorFlowKnows
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.worker.trials.accepted_numbers import find, type_limits

FINITE = ConversionGuard({"x": type_limits(TensorSpec("x", "float32", (-1,)))})
IDS = ConversionGuard({"x": (0, 9)})
MOST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("guard", "values", "passes"),
    [
        (FINITE, [1.0, -1.0, 0.0], True),
        (FINITE, [MOST, -MOST], True),
        (FINITE, [1.0, np.nan], False),
        (FINITE, [np.inf, 1.0], False),
        (FINITE, [1.0, -np.inf], False),
        (FINITE, [], False),
        (FINITE, [1e-45, -0.0], True),
        (ConversionGuard(FINITE.ranges, normal_only=True), [1e-45, 1.0], False),
        (ConversionGuard(FINITE.ranges, normal_only=True), [-0.0, 1.0], False),
        (ConversionGuard(FINITE.ranges, normal_only=True), [0.0, 1.0], True),
    ],
)
def test_floats_pass_if_they_are_finite_and_in_range(guard: ConversionGuard, values: list[float], passes: bool) -> None:
    assert (outside(guard, {"x": np.array(values, np.float32)}) is None) == passes


@pytest.mark.parametrize(
    ("values", "passes"), [([0, 9], True), ([-1, 3], False), ([3, 10], False), ([2**31 - 1], False)]
)
def test_whole_numbers_pass_if_they_are_in_range(values: list[int], passes: bool) -> None:
    assert (outside(IDS, {"x": np.array(values, np.int32)}) is None) == passes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.filterwarnings("error")
def test_every_type_of_float_is_looked_at(dtype: str) -> None:
    guard = ConversionGuard({"x": type_limits(TensorSpec("x", dtype, (-1,)))})
    for value, passes in ((1.5, True), (np.nan, False), (-np.inf, False)):
        assert (outside(guard, {"x": np.array([0, value], DTYPES[dtype].numpy)}) is None) == passes


@pytest.mark.parametrize(
    ("text", "passes"), [(b"good film", True), (b"", False), ("é".encode(), False), (b"a\0", False)]
)
def test_texts_pass_if_they_are_plain(text: bytes, passes: bool) -> None:
    inputs = {"x": np.array([b"a", text], object)}
    assert (outside(ConversionGuard(ascii_only=True), inputs) is None) == passes
    assert outside(ConversionGuard(), inputs) is None


class Doubling(SignatureOnly):
    """A converted model that refuses 5."""

    runtime = "litert"

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if 5 in inputs["x"]:
            raise Invalid("no 5")
        return [inputs["x"] * 2]


def test_what_the_guard_or_the_model_refuses_is_for_tensorflow_to_answer() -> None:
    spec = TensorSpec("x", "int32", (-1,))
    model = Guarded(Doubling("LiteRT file", {"s": Signature((spec,), (spec,))}), IDS)
    assert np.array_equal(model.run({"x": np.array([1, 9])}, ["x"], "s")[0], [2, 18])  # type: ignore[arg-type]
    for values in ([10], [5]):
        with pytest.raises(OnlyTensorFlowKnows):
            model.run({"x": np.array(values)}, ["x"], "s")


def taken(dtype: str, lowest: float, highest: float, base: float, *, batched: bool = True) -> object:
    """The limits found of a model that takes numbers from `lowest` to `highest`."""

    def compute(inputs: Mapping[str, Array]) -> Sequence[Array]:
        array = inputs["x"]
        if not ((array >= lowest) & (array <= highest)).all():
            raise Invalid("out of range")
        return [array]

    spec = TensorSpec("x", dtype, (-1, 3) if batched else ())
    shape = (1, 3) if batched else ()
    found = find(compute, Signature((spec,), ()), {"x": np.full(shape, base, DTYPES[dtype].numpy)})
    return found if isinstance(found, str) else found["x"]


def test_the_range_that_a_model_takes_is_found_to_the_last_number() -> None:
    assert taken("int32", 0, 29_999, 0) == (0, 29_999)
    assert taken("int64", -7, 2**40 + 1, 3) == (-7, 2**40 + 1)
    assert taken("uint8", 0, 255, 1) == (0, 255)
    assert taken("int32", 50, 60, 55) == (50, 60)
    assert taken("float32", 0.5, np.inf, 1) == (0.5, float(MOST))
    assert taken("float64", -np.inf, np.inf, 1) == type_limits(TensorSpec("x", "float64", None))


def test_a_range_ends_at_no_denormal_number() -> None:
    smallest = float(np.finfo(np.float32).smallest_normal)
    assert taken("float32", -smallest / 2, 1, 1) == (0, 1)
    assert taken("float32", smallest / 2, 1, 1) == (smallest, 1)
    assert taken("float32", -1, smallest / 2, -1) == (-1, 0)
    assert taken("float32", -1, -smallest / 2, -1) == (-1, -smallest)
    assert taken("float32", -smallest, smallest, 0) == (-smallest, smallest)


def test_a_single_number_may_be_a_size_and_is_never_huge() -> None:
    assert taken("int64", -(2**63), 2**63 - 1, 1, batched=False) == (-255, 255)


def test_a_number_that_makes_outputs_large_is_the_last_that_is_tried() -> None:
    def compute(inputs: Mapping[str, Array]) -> Sequence[Array]:
        return [np.broadcast_to(np.float64(0), (max(int(inputs["x"].max()), 0),))]

    spec = TensorSpec("x", "int64", (-1,))
    found = find(compute, Signature((spec,), ()), {"x": np.zeros(1, np.int64)})
    assert isinstance(found, dict)
    assert 2**20 < found["x"][1] < 2**32
