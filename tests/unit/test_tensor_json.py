"""Tensors in JSON, both ways, against plain json and numpy."""

from __future__ import annotations

import json
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfserve.errors import Invalid
from tfserve.tensors import json_skeleton
from tfserve.tensors.casting import cast
from tfserve.tensors.json_numbers import LONG
from tfserve.tensors.specs import TensorSpec
from tfserve.tensors.tensor_json import NotFinite, NotJson, decode, decode_leniently, from_array, plain, to_array

SPACES = " " * LONG
ANY = TensorSpec("x", "float32", None)

numbers = st.one_of(st.integers(-(2**70), 2**70), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False))
leaves = st.one_of(numbers, numbers, numbers, st.booleans(), st.none(), st.text(max_size=3))
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=30)
shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
budget = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def long(value: Any) -> Any:
    """The value as it comes out of a body in which it is long enough to be left unread."""
    return decode(('{"x": ' + json.dumps(value).replace("[", "[" + SPACES, 1) + "}").encode())["x"]


def outcome(value: Any, spec: TensorSpec) -> Any:
    try:
        array = to_array(value, spec, "x")
    except Invalid as error:
        return error.message
    return array.dtype, array.shape, array.tolist()


@given(
    st.lists(nested, max_size=5), st.sampled_from(["float32", "float64", "float16", "int64", "int8", "uint64", "bool"])
)
@example([[1], [2, 3]], "int64")
@example([[1, 2], 3], "float32")
@example([1, [2]], "float32")
@example([[], [1]], "float32")
@example([[], []], "float32")
@example([[[1, 2]], [[3]], [[4, 5, 6]]], "float32")
@example([2**53 + 1, -(2**63)], "int64")
@example([2**64 - 1], "uint64")
@example([128], "int8")
@example([1e39], "float32")
@budget
def test_a_long_list_becomes_what_a_short_one_becomes_and_is_refused_in_the_same_words(value: Any, dtype: str) -> None:
    spec = TensorSpec("x", dtype, None)
    assert outcome(long(value), spec) == outcome(decode(json.dumps(value).encode()), spec)


@given(arrays.arrays(np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@budget
def test_floats_survive_the_way_out_and_in_exactly(array: Any) -> None:
    text = from_array(array)
    assert np.array(json.loads(text), np.float32).reshape(array.shape).tolist() == array.tolist()
    read = to_array(long(json.loads(text)), TensorSpec("x", "float32", None), "x")
    assert read.ravel().tolist() == array.ravel().tolist()


@given(arrays.arrays(st.sampled_from([np.int64, np.uint64, np.int8, np.uint16]), shapes))
@budget
def test_integers_survive_exactly(array: Any) -> None:
    assert json.loads(from_array(array)) == array.tolist()
    if array.size:
        assert (
            to_array(long(array.tolist()), TensorSpec("x", array.dtype.name, array.shape), "x").tolist()
            == array.tolist()
        )


@given(
    st.dictionaries(st.text(max_size=4), st.lists(st.integers(-9, 2**63), max_size=4), max_size=2), st.integers(0, 2)
)
@budget
def test_lists_are_found_wherever_they_are_the_value_of_a_key(fields: dict[str, Any], depth: int) -> None:
    value: Any = fields
    for n in range(depth):
        value = {f"outer{n}": [value, 1]}
    body = json.dumps(value).replace("[", "[" + SPACES).encode()
    assert json.loads(json.dumps(decode(body), default=plain)) == json.loads(body)


@given(st.binary(max_size=40), st.integers(0, 30))
@budget
def test_rubbish_in_a_long_body_is_refused(rubbish: bytes, at: int) -> None:
    body = bytearray(b'{"a": [1, [2], 3], "b": [' + SPACES.encode() + b"4, 5]}")
    body[at:at] = rubbish
    try:
        expected = json.loads(bytes(body))
    except ValueError:
        expected = None
    try:
        found = json.loads(json.dumps(decode(bytes(body)), default=plain))
    except NotJson:
        return
    assert found == expected


@pytest.mark.parametrize(
    "text",
    ["[1,2,[3]", "[1,{},[2]]", "[1],,", "[[1],{}]", "[1 2]", "[1,]", "[]]", "[nan]", "[1,2}", "[[1,2],[3}"],
)
def test_a_list_cut_at_the_wrong_place_is_no_json_or_read_as_a_whole(text: str) -> None:
    body = ('{"x": ' + text.replace("[", "[" + SPACES, 1) + ', "y": 1}').encode()
    try:
        expected = json.loads(body)
    except ValueError:
        with pytest.raises(Invalid):
            to_array(decode(body)["x"], ANY, "x")
    else:
        assert plain(decode(body)["x"]) == expected["x"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 250_000,
        b'{"x":' * 250_000,
        b'{"x":' + b"[" * 250_000 + b"}",
        b'{"x":' + b"[" * 250_000 + b"]" * 250_000 + b"}",
        b'{"x":' + b"[1," * 250_000 + b"1" + b"]" * 250_000 + b"}",
        b'{"x": [' + b"1," * 9000 + b"\xff]}",
        b'{"x": [' + b"1," * 9000 + b"2",
        b'{"x": [' + b"1," * 9000 + b"1e999]}",
        b"\xff\xfe",
        b"",
    ],
)
def test_rubbish_is_refused_at_once(body: bytes) -> None:
    started = time.process_time()
    for parse in (decode, decode_leniently):
        with pytest.raises(Invalid):
            to_array(parse(body)["x"], ANY, "x")
    assert time.process_time() - started < 1


def test_of_keys_that_are_there_twice_the_last_one_counts() -> None:
    assert decode(b'{"x": 1, "x": 2}') == {"x": 2}
    body = f'{{"x": [{SPACES}1], "x": [{SPACES}2]}}'
    assert to_array(decode(body.encode())["x"], ANY, "x").tolist() == [2]


def test_nan_and_what_follows_the_document_are_taken_only_leniently() -> None:
    for body in (b'{"x": [NaN, 1, -Infinity]}', b'{"x": [1]} rest', b'{"x": [NaN%s]}' % SPACES.encode()):
        with pytest.raises(NotJson):
            plain(decode(body)["x"])
    assert decode_leniently(b'{"x": [1]} rest') == {"x": [1]}
    short = to_array(decode_leniently(b'{"x": [NaN, 1, -Infinity]}')["x"], ANY, "x")
    long_list = to_array(decode_leniently(b'{"x": [NaN, 1, -Infinity%s]}' % SPACES.encode())["x"], ANY, "x")
    assert str(short.tolist()) == str(long_list.tolist()) == "[nan, 1.0, -inf]"
    with pytest.raises(Invalid, match="out of range for"):
        to_array(decode_leniently(b'{"x": [NaN, 1e39]}')["x"], ANY, "x")
    with pytest.raises(NotJson):
        decode_leniently(b'{"x": [NaN, 1e999]}')
    with pytest.raises(NotJson):
        decode_leniently(b'{"x": "\\ud800", "y": NaN}')


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([2.0, 0.1, -0.0, 1e30], np.float32), "[2.0,0.1,-0.0,1e+30]"),
        (np.array([0.1, 2], np.float16), "[0.099975586,2.0]"),
        (np.array([0.1, 2], ml_dtypes.bfloat16), "[0.100097656,2.0]"),
        (np.array([2**53 + 1, -1]), "[9007199254740993,-1]"),
        (np.array([True, False]), "[true,false]"),
        (np.array(2.0, np.float32), "2.0"),
        (np.array(7, np.uint8), "7"),
        (np.array(True), "true"),
        (np.zeros((2, 0), np.float32), "[[],[]]"),
        (np.zeros((0, 2), np.int64), "[]"),
        (np.arange(4).reshape(2, 2).T, "[[0,2],[1,3]]"),
        (np.array([["é".encode(), b"\xff"]], object), '[["é",{"b64":"/w=="}]]'),
        (np.array(b"a", object), '"a"'),
        (np.zeros((0,), object), "[]"),
    ],
)
def test_an_array_is_written_as_short_as_it_is_exact(array: Any, text: str) -> None:
    assert from_array(array).decode() == text
    array.flags.writeable = False
    assert from_array(array).decode() == text


def test_bytes_are_written_as_b64_where_that_is_requested() -> None:
    assert from_array(np.array([b"a"], object), b64=True) == b'[{"b64":"YQ=="}]'


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_what_is_not_finite_is_refused_or_written_as_words(dtype: Any) -> None:
    array = np.array([[1, np.nan], [np.inf, -np.inf]]).astype(dtype)
    with pytest.raises(NotFinite, match="'y'"):
        from_array(array, name="y")
    assert from_array(array, tokens=True) == b"[[1.0,NaN],[Infinity,-Infinity]]"
    assert from_array(array[0, 1].reshape(()), tokens=True) == b"NaN"


def test_a_picture_is_read_several_times_faster_than_by_objects() -> None:
    picture = np.random.default_rng(0).random((1, 224, 224, 3)).astype(np.float32)
    body = b'{"instances":' + from_array(picture) + b"}"
    spec = TensorSpec("x", "float32", (-1, 224, 224, 3))

    def seconds(read: Any) -> float:
        started = time.process_time()
        assert (read() == picture).all()
        return time.process_time() - started

    fast = min(seconds(lambda: to_array(decode(body)["instances"], spec, "x")) for _ in range(5))
    slow = min(seconds(lambda: cast(json.loads(body)["instances"], spec, "x")) for _ in range(2))
    assert fast < slow / 3


def test_the_shape_comes_from_brackets_and_commas() -> None:
    assert json_skeleton.shape_of(b"[[1, 2], [3, 4], [5, 6]]", 6) == (3, 2)
    assert json_skeleton.shape_of(b"[[[7]]]", 1) == (1, 1, 1)
    assert json_skeleton.shape_of(b"[[], [7]]", 1) is None
    assert json_skeleton.shape_of(b"[[1], [2, 3]]", 3) is None
    assert json_skeleton.shape_of(b"[[1, 2], 3]", 3) is None
    assert json_skeleton.shape_of(b"[[[1], [2]], [[3], [4]]]", 4) == (2, 2, 1)
    assert json_skeleton.shape_of(b"[[[1], [2]], [[3, 4]]]", 4) is None
    assert json_skeleton.shape_of(b"[[1][2]]", 2) is None


@pytest.mark.parametrize("odd", [b"[1,2,3]", b"[1]", b"[[1],2]", b"[]"])
def test_one_odd_list_among_a_million_is_found_wherever_it_is(odd: bytes) -> None:
    rows = [b"[1,2]"] * 1_000_000
    assert json_skeleton.shape_of(b"[" + b",".join(rows) + b"]", 2_000_000) == (1_000_000, 2)
    for at in (0, 1, 499_999, 999_999):
        count = 1_999_998 + odd.count(b"1") + odd.count(b"2") + odd.count(b"3")
        text = b"[" + b",".join([*rows[:at], odd, *rows[at + 1 :]]) + b"]"
        assert json_skeleton.shape_of(text, count) is None
