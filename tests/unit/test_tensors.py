"""The one casting rule: exact, or an error that says what was expected and what was given."""

from __future__ import annotations

import base64
import random
import re
import time
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.tensors.casting import cast, decode_b64
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import TensorSpec


def given(value: Any, dtype: str, shape: tuple[int, ...] | None = None) -> Any:
    return cast(value, TensorSpec("x", dtype, shape), "x")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2.5], "float32", np.array([1, 2.5], np.float32)),
        ([[1], [2]], "float64", np.array([[1.0], [2.0]])),
        (2**53 + 1, "int64", np.array(2**53 + 1, np.int64)),
        ([2**64 - 1], "uint64", np.array([2**64 - 1], np.uint64)),
        ([-128, 127], "int8", np.array([-128, 127], np.int8)),
        ([True, False], "bool", np.array([True, False])),
        ([0.5], "float16", np.array([0.5], np.float16)),
        ([], "int32", np.zeros(0, np.int32)),
        ([[], []], "float32", np.zeros((2, 0), np.float32)),
        ("abc", "string", np.array(b"abc", object)),
        (["\N{SNOWMAN}", {"b64": "/w=="}], "string", np.array(["\N{SNOWMAN}".encode(), b"\xff"], object)),
    ],
)
def test_a_value_that_fits_becomes_an_array_of_exactly_that_type(value: Any, dtype: str, expected: Any) -> None:
    array = given(value, dtype)
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    assert (array == expected).all()


@pytest.mark.parametrize(
    ("value", "spec", "shape"),
    [
        ([], (-1, 3), (0, 3)), ([], (-1, -1, 2), (0, 0, 2)), ([[], []], (-1, -1, 3), (2, 0, 3)), ([], (-1,), (0,)),
        ([[]], (-1, 0, 4), (1, 0, 4)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "string", "bool"])
def test_an_empty_list_has_the_sizes_of_the_spec_inside(
    dtype: str, value: Any, spec: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert given(value, dtype, spec).shape == shape


@pytest.mark.parametrize(("value", "spec", "got"), [([], (4, 3), "[0, 3]"), ([[]], (-1, 3), "[1, 0]")])
def test_an_empty_list_is_refused_where_the_spec_has_another_size(value: Any, spec: tuple[int, ...], got: str) -> None:
    with pytest.raises(Invalid, match=re.escape(f"got shape {got}")):
        given(value, "float32", spec)


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        ([1.0], "int64", "expected whole numbers, got a number with a fraction"),
        (["3"], "int64", "got text"),
        ([True], "int64", "got true or false"),
        ([1, True], "int64", "got true or false"),
        ([None], "float32", "got null"),
        ([True], "float32", "expected numbers, got true or false"),
        ([0, 1], "bool", "expected true or false, got a whole number"),
        ([300], "uint8", "out of range for uint8"),
        ([-1], "uint8", "out of range for uint8"),
        ([2**63], "int64", "out of range for int64"),
        ([10**400], "float64", "out of range for float64"),
        ([1e39], "float32", "out of range for float32"),
        ([70000], "float16", "out of range for float16"),
        ([1], "string", "got a whole number"),
        ([{"b64": "!"}], "string", "not valid base64"),
        ([{"b64": "", "more": 1}], "string", "got an object"),
        ([{"a": 1}], "float32", "got an object"),
        ([[1, 2], [3]], "float32", "ragged"),
        ([[1, 2], 3], "float32", "ragged"),
        ([1, [2]], "float32", "ragged"),
        ([["ab"], "cd"], "string", "ragged"),
        ([1], "complex64", "JSON cannot represent"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_input_and_the_reason(value: Any, dtype: str, words: str) -> None:
    with pytest.raises(Invalid, match="Input 'x'") as caught:
        given(value, dtype)
    assert words in caught.value.message


def test_a_wrong_shape_is_reported_with_the_expected_one() -> None:
    with pytest.raises(Invalid) as caught:
        given([[1, 2, 3]], "float32", (-1, 2))
    assert caught.value.message == "Input 'x' takes float32 of shape [-1, 2], got shape [1, 3]."


def test_a_single_example_where_a_batch_is_expected_is_explained() -> None:
    with pytest.raises(Invalid, match="send a single example as shape"):
        given([1, 2], "float32", (-1, 2))


def test_any_rank_is_taken_where_the_shape_is_unknown() -> None:
    assert given(1, "float32").shape == ()
    assert given([[[1]]], "float32").shape == (1, 1, 1)


def test_a_value_nested_too_deeply_is_refused() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    with pytest.raises(Invalid, match="200 dimensions"):
        given(value, "float32")


def test_an_image_of_224_pixels_square_is_cast_in_milliseconds() -> None:
    image = np.random.default_rng(0).random((1, 224, 224, 3)).tolist()
    started = time.process_time()
    assert given(image, "float32", (-1, 224, 224, 3)).shape == (1, 224, 224, 3)
    assert time.process_time() - started < 0.2


def test_the_names_of_types_are_those_of_the_three_worlds() -> None:
    assert {dtype.v2 for dtype in DTYPES.values()} >= {"FP16", "BF16", "FP32", "BYTES", "BOOL", "UINT64"}
    assert DTYPES["string"].numpy == np.dtype(object)
    assert DTYPES["int8"].numpy == np.int8


def test_base64_is_accepted_and_refused_as_by_the_standard_library() -> None:
    random_ = random.Random(1)
    accepted = 0
    for length in range(2000):
        text = base64.b64encode(random_.randbytes(length % 90)).decode()
        if length % 2:
            at = random_.randrange(len(text) + 1)
            text = text[:at] + random_.choice(["=", "A", "-", " ", "\n", "é", "\0", "=="]) + text[at + length % 3 :]
        expected, message = by_the_standard_library(text)
        if expected is None:
            with pytest.raises(Invalid, match=re.escape(message)):
                decode_b64(text, "Input 'x'")
        else:
            accepted += 1
            assert decode_b64(text, "Input 'x'") == expected
    assert 1000 < accepted < 1900


def by_the_standard_library(text: str) -> tuple[bytes | None, str]:
    """The bytes, or the error message."""
    try:
        return base64.b64decode(text, validate=True), ""
    except ValueError as error:
        return None, str(error).rstrip(".")


@pytest.mark.parametrize("size", [1, 4])
def test_another_number_of_examples_than_the_fixed_one_is_explained(size: int) -> None:
    with pytest.raises(Invalid, match=f"send exactly {size} in each request"):
        given([[1, 2], [3, 4]], "float32", (size, 2))
