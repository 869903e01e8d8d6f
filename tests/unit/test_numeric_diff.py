"""When two runtimes count as having given the same numbers."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tfserve.tensors.specs import Array
from tfserve.worker.trials.numeric_diff import Difference, compare, is_rounded


def difference(given: Any, expected: Any, dtype: Any = np.float32, *, reduced: bool = False) -> Difference:
    found = Difference()
    arrays: list[list[Array]] = [[np.asarray(each, dtype=dtype)] for each in (given, expected)]
    compare(found, ["y"], *arrays, reduced=reduced)
    return found


@pytest.mark.parametrize(
    ("given", "expected", "dtype"),
    [
        ([1.0005], [1.0], np.float32),
        ([[0.1, 0.9]], [[0.1, 0.9]], np.float32),
        ([math.nan, math.inf], [math.nan, math.inf], np.float32),
        ([1e6, 1.0], [1e6, 0.0], np.float32),
        ([[300.0, 200.001]], [[300.0, 200.0]], np.float32),
        ([[30.0, 2e-4]], [[30.0, 0.0]], np.float32),
        ([[-math.inf, 2.0]], [[-math.inf, 2.0]], np.float32),
        ([[0.5, 0.5 + 1e-9]], [[0.5 + 1e-9, 0.5]], np.float32),
        ([1.003], [1.0], ml_dtypes.bfloat16),
        ([2**53 + 1], [2**53 + 1], np.int64),
        ([b"a"], [b"a"], object),
        (np.zeros((0, 3)), np.zeros((0, 3)), np.float32),
    ],
)
def test_these_agree(given: Any, expected: Any, dtype: Any) -> None:
    assert difference(given, expected, dtype).problem == ""


@pytest.mark.parametrize(
    ("given", "expected", "dtype", "words"),
    [
        ([1.002], [1.0], np.float32, "differs by up to 0.002"),
        ([1e-4], [0.0], np.float32, "differs by up to"),
        ([[0.5004, 0.5]], [[0.5, 0.5004]], np.float32, "another highest element in 1 of 1 rows"),
        ([math.nan], [1.0], np.float32, "finite"),
        ([1.0], [math.nan], np.float32, "finite"),
        ([math.inf], [-math.inf], np.float32, "finite"),
        ([1.0 + 1e-7], [1.0], np.float64, "differs by up to 1e-07"),
        ([2**53], [2**53 + 1], np.int64, "is not equal"),
        ([True], [False], np.bool_, "is not equal"),
        ([b"a"], [b"b"], object, "is not equal"),
        ([[1e6, 0.5]] * 8, [[1e6, 0.51]] * 8, np.float32, "differs by up to 0.01"),
        (
            [[5.0, -1e9, 7.0], [5.0, 2.0, -1e9]],
            [[5.5, -1e9, 7.0], [5.0, 2.0, -1e9]],
            np.float32,
            "differs by up to 0.5",
        ),
        ([[1.5, -3.4e38]], [[1.0, -3.4e38]], np.float32, "differs by up to 0.5"),
        ([[1.0]], [1.0], np.float32, "has the shape [1, 1], not [1]"),
    ],
)
def test_these_do_not(given: Any, expected: Any, dtype: Any, words: str) -> None:
    problem = difference(given, expected, dtype).problem
    assert problem.startswith("output 'y'")
    assert words in problem


def test_another_type_does_not_agree_even_with_the_same_numbers() -> None:
    found = Difference()
    compare(found, ["y"], [np.ones(1, np.int32)], [np.ones(1, np.int64)])
    assert found.problem == "output 'y' has the type int32, not int64"


def test_differences_are_measured_where_the_outputs_agree_too() -> None:
    found = difference([[2.0002, 1.0], [1.0, 3.0]], [[2.0, 1.0], [1.0, 3.0]])
    assert found.max_abs == pytest.approx(2e-4, rel=0.01)
    assert found.max_rel == pytest.approx(1e-4, rel=0.01)
    assert found.same_classes == 1.0
    assert difference([1], [1], np.int64).same_classes is None


def test_with_fewer_bits_requested_larger_differences_are_taken_but_not_other_classes() -> None:
    assert difference([[0.92, 0.08]], [[0.9, 0.1]], reduced=True).problem == ""
    assert "only 0.0% of the rows" in difference([[0.49, 0.51]], [[0.51, 0.49]], reduced=True).problem
    assert "a tenth of its range" in difference([[0.7, 0.3]], [[0.9, 0.1]], reduced=True).problem


@pytest.mark.parametrize(("given", "expected"), [([1, 2, 3, 4], [4, 3, 2, 1]), ([b"a"], [b"b"])])
def test_with_fewer_bits_class_numbers_and_text_must_be_equal_almost_everywhere(given: Any, expected: Any) -> None:
    kind = object if isinstance(given[0], bytes) else np.int64
    assert "0.0% of the class numbers" in difference(given, expected, kind, reduced=True).problem
    many = np.arange(100)
    assert difference(np.where(many < 4, 7, many), many, np.int64, reduced=True).problem == ""
    assert "94.0%" in difference(np.where(many < 6, 7, many), many, np.int64, reduced=True).problem


def test_with_fewer_bits_all_cases_count_and_saturated_values_belong_to_the_range() -> None:
    found, equal = Difference(), np.arange(8)
    for case in [equal] * 25 + [np.array([1])]:
        compare(found, ["y"], [np.where(len(case) == 1, 2, case)], [case], reduced=True)
    assert found.problem == ""
    assert difference([[1, 0.0115, 0]], [[1, 0.0100, 0]], reduced=True).problem == ""
    picture = np.full((1, 4, 4, 3), 100)
    assert difference(picture + 1, picture, np.uint8, reduced=True).problem == ""
    assert "a tenth" in difference(picture + 26, picture, np.uint8, reduced=True).problem


@pytest.mark.parametrize("rows", [1, 3])
def test_sums_in_another_order_are_rounded_whatever_their_size(rows: int) -> None:
    random = np.random.default_rng(rows)
    inputs = random.normal(size=(rows, 1024)).astype(np.float32) * 30
    weights = random.normal(size=(1024, 4096)).astype(np.float32)
    order = random.permutation(1024)
    one, other = inputs @ weights, inputs[:, order] @ weights[order]
    assert not np.array_equal(one, other)
    assert is_rounded(one, other)
    assert difference(one, other).problem == ""


@pytest.mark.parametrize("masked", [-1e9, -3.4e38, -math.inf, math.nan])
def test_masked_scores_do_not_hide_that_rows_were_mixed(masked: float) -> None:
    alone = np.array([[masked, 2.0, 3.0], [1.0, masked, 3.0]], np.float32)
    assert is_rounded(alone * np.float32(1 + 1e-7), alone)
    assert not is_rounded(np.where(alone == 3, np.float32(3.01), alone), alone)
    assert not is_rounded(np.where(alone == 1, np.float32(1.01), alone), alone)


def mask_difference(flips: int, *, close: bool, positions: int = 2000) -> Difference:
    """A mask of 0 and 1 of which the first positions of the second example differ."""
    expected = np.zeros((2, positions // 50, 50), np.int64)
    given = expected.copy()
    given[1].flat[:flips] = 1
    found = Difference()
    compare(found, ["mask"], [given], [expected], close={"mask": np.full(expected.shape, close)})
    return found


def test_few_pixels_of_a_mask_may_have_another_class_where_two_classes_are_close() -> None:
    assert mask_difference(2, close=True).problem == ""
    assert mask_difference(2, close=True).other_classes == 0.001
    assert "another class at 0.15% of the positions of an example" in mask_difference(3, close=True).problem
    assert mask_difference(1, close=False).problem == "output 'mask' is not equal"
    assert "another class" in mask_difference(1, close=True, positions=950).problem, "0.1% of them is less than one"


def test_maps_of_scores_are_compared_like_masks_once_their_scores_agree() -> None:
    expected = np.tile([0.50002, 0.5, 0.1], (1, 40, 50, 1))
    given = expected.copy()
    given[0, 0, :2] = [0.5, 0.50002, 0.1]
    assert difference(given, expected).problem == ""
    assert difference(given, expected).other_classes == 0.001
    given[0, 1] = given[0, 0, 0]
    assert "another class at 2.60%" in difference(given, expected).problem
    assert "differs by up to" in difference(np.roll(expected, 1, axis=-1), expected).problem
