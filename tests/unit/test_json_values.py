"""Values become JSON as the workspace API promises, whatever a script has made of them."""

from __future__ import annotations

import datetime
import enum
import json
import math
import time
from collections import Counter, OrderedDict, deque, namedtuple
from typing import Any

import numpy as np
import pytest

from tfserve.tensors import json_values
from tfserve.tensors.json_values import DoesNotFit, Interrupted


def converted(value: Any, **options: Any) -> Any:
    return json.loads(json_values.encode(value, **options))


class Color(enum.IntEnum):
    RED = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**100, 2**100),
        (-(2**100), -(2**100)),
        ([1, 2**70], [1, 2**70]),
        (1.5, 1.5),
        (math.nan, None),
        (-math.inf, None),
        ([1.0, math.inf], [1.0, None]),
        ([1, 2.5, None, "x"], [1, 2.5, None, "x"]),
        ("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"),
        ("\ud800", "\\ud800"),
        (b"ab", {"b64": "YWI="}),
        (bytearray(b"ab"), {"b64": "YWI="}),
        (memoryview(b"ab"), {"b64": "YWI="}),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (deque([1]), [1]),
        (
            {1: "a", None: "b", False: "c", 2.5: "d", (1, 2): "e"},
            {"1": "a", "null": "b", "false": "c", "2.5": "d", "[1,2]": "e"},
        ),
        (OrderedDict(a=Counter("aa")), {"a": {"a": 2}}),
        (Color.RED, 3),
        (1 + 2j, "(1+2j)"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (len, "<built-in function len>"),
        (range(3), "range(0, 3)"),
        ([], []),
        ({}, {}),
    ],
)
def test_python_values_have_their_json_form(value: Any, expected: Any) -> None:
    assert converted(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(2**53 + 1), 2**53 + 1),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.float64("nan"), None),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array([1.0, np.nan, np.inf]), [1.0, None, None]),
        (np.array([0.5], np.float16), [0.5]),
        (np.array(3), 3),
        (np.zeros((0, 2)), []),
        (np.array([1 + 2j]), ["(1+2j)"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([b"ab"]), [{"b64": "YWI="}]),
        (np.array(["2020-01-02", "NaT"], "datetime64[D]"), ["2020-01-02", None]),
        (np.array([None, {1}], object), [None, [1]]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f4")]), [[1, 2.5]]),
        pytest.param(np.random.default_rng, str(np.random.default_rng), id="a function"),
    ],
)
def test_numpy_values_are_numbers_and_nested_lists(value: Any, expected: Any) -> None:
    assert converted(value) == expected


def test_bfloat16_arrays_are_numbers() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert converted(np.array([0.5, np.nan], ml_dtypes.bfloat16)) == [0.5, None]


def test_pandas_frames_are_csv_text_and_indexes_lists() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2]})
    assert converted(frame) == ",a\n0,1\n1,2\n"
    assert converted(frame["a"]) == ",a\n0,1\n1,2\n"
    assert converted(frame.index) == [0, 1]
    assert converted(frame.columns) == ["a"]
    assert converted([pandas.NA, pandas.NaT]) == [None, None]
    assert converted(pandas.Timestamp("2020-01-02")) == "2020-01-02 00:00:00"
    assert json_values.summary(frame)["shape"] == [2, 1]


class Rude:
    def __str__(self) -> str:
        raise ValueError("no")


class Exiting:
    def __str__(self) -> str:
        raise SystemExit


def test_a_value_whose_str_raises_becomes_a_sentence() -> None:
    assert converted([Rude(), Exiting()]) == [
        "<Rude whose str() raised ValueError>",
        "<Exiting whose str() raised SystemExit>",
    ]


class Raising:
    """Raises what it is given, whatever is asked of it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    def __len__(self) -> int:
        raise self.error

    def __iter__(self) -> Any:
        raise self.error


class RaisingList(Raising, list[int]):
    pass


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), StopIteration(), BaseException()]
)
def test_whatever_a_value_s_own_code_raises_concerns_that_value_alone(error: BaseException) -> None:
    said = f"<Raising whose str() raised {type(error).__name__}>"
    assert converted([1, Raising(error), {"a": Raising(error)}]) == [1, said, {"a": said}]
    assert converted([RaisingList(error)]) == [f"<RaisingList whose str() raised {type(error).__name__}>"]
    assert json_values.summary(Raising(error)) == {"summary": True, "type": "Raising"}
    assert json_values.shape_of(Raising(error)) is None


def test_a_real_interrupt_ends_a_conversion() -> None:
    for convert in (json_values.encode, json_values.summary):
        with pytest.raises(Interrupted):
            convert(RaisingList(Interrupted()))


def test_a_circular_value_says_so_where_it_recurs() -> None:
    value: list[Any] = [1]
    value.append({"self": value})
    assert converted(value) == [1, {"self": "<circular reference to list>"}]


def test_a_value_that_occurs_twice_is_not_circular() -> None:
    shared = [1]
    assert converted([shared, shared]) == [[1], [1]]


def test_nesting_is_bounded() -> None:
    value: Any = []
    for _ in range(10_000):
        value = [value]
    assert "nested deeper than 100 levels" in json_values.encode(value).decode()


def test_bytes_are_text_where_they_are_utf8_when_asked() -> None:
    assert converted(np.array([b"ab", b"\xff"], object), bytes_as_text=True) == ["ab", {"b64": "/w=="}]


@pytest.mark.parametrize(
    "huge",
    [
        np.zeros(10**8, np.uint8),
        [0] * 10**7,
        "x" * 10**7,
        [[0.0] * 1000] * 10_000,
        [np.zeros(10**6)] * 1000,
        [b"x" * 10**6] * 99,
    ],
)
def test_a_huge_value_is_refused_without_being_converted(huge: Any) -> None:
    started = time.process_time()
    with pytest.raises(DoesNotFit):
        json_values.encode(huge, limit_bytes=100_000)
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize(
    "value",
    [True, 2**80, 1.5, "\x00", [1] * 100, ["a", ""], {"a": [None, {}]}, {"": 1}, np.eye(9), np.int8(3), b"x", {1, 2}],
)
def test_a_value_that_fits_exactly_is_not_refused(value: Any) -> None:
    exact = json_values.encode(value)
    assert json_values.encode(value, limit_bytes=len(exact)) == exact
    with pytest.raises(DoesNotFit):
        json_values.encode(value, limit_bytes=len(exact) - 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            np.arange(6.0).reshape(2, 3),
            {"type": "ndarray", "shape": [2, 3], "dtype": "float64", "length": 2, "values": [0, 1, 2]},
        ),
        ([1, "x" * 999], {"type": "list", "length": 2, "values": [1, "<str>"]}),
        ("y" * 500, {"type": "str", "length": 500, "values": ["y" * 100]}),
        (7, {"type": "int"}),
    ],
)
def test_a_summary_reports_type_size_and_a_few_values(value: Any, expected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(json_values.summary(value), default=lambda raw: json.loads(bytes(raw)))) == {
        "summary": True,
        **expected,
    }


def test_objects_and_lists_are_put_together_from_finished_parts() -> None:
    assert json_values.encode_object({'a"\ud800': b"1", "b": b"[2]"}) == b'{"a\\"\\\\ud800":1,"b":[2]}'
    assert json_values.encode_list([b"1", b"null"]) == b"[1,null]"


def test_a_million_numbers_take_little_time() -> None:
    values = [float(n) for n in range(10**6)]
    started = time.process_time()
    json_values.encode(values)
    assert time.process_time() - started < 1
