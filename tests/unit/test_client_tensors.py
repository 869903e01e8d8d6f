"""The Python client writes and reads tensors of v2, with numpy and without it."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest

from tfserve_client import Invalid
from tfserve_client.tensors import DATATYPES, LENGTH, NUMPY_TYPES, Body, has_meant_type, infer_body, read_outputs


def parts(body: Body) -> tuple[dict[str, Any], bytes]:
    """The JSON of a body, and the bytes after it."""
    size = int(body.headers[LENGTH])
    return json.loads(body.content[:size]), body.content[size:]


def response(outputs: list[dict[str, Any]], tail: bytes = b"") -> httpx.Response:
    head = json.dumps({"outputs": outputs}).encode()
    return httpx.Response(200, content=head + tail, headers={LENGTH: str(len(head))})


@pytest.mark.parametrize("name", DATATYPES)
def test_arrays_of_every_type_are_sent_as_bytes(name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    head, tail = parts(infer_body({"x": array}, {}))
    assert head["inputs"] == [
        {"name": "x", "datatype": DATATYPES[name], "shape": [2, 2], "parameters": {"binary_data_size": array.nbytes}}
    ]
    assert head["parameters"] == {"binary_data_output": True}
    assert tail == array.tobytes()


def test_arrays_of_another_byte_order_or_layout_are_sent_in_the_order_of_the_protocol() -> None:
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    _, tail = parts(infer_body({"x": array}, {}))
    assert tail == np.array([[0, 3], [1, 4], [2, 5]], "<i4").tobytes()


def test_several_inputs_follow_one_another_and_outputs_are_selected() -> None:
    inputs = {"a": np.ones(2, np.uint8), "b": np.zeros(1, np.float16)}
    head, tail = parts(infer_body(inputs, {}, outputs=["y"], parameters={"signature": "s"}))
    assert tail == b"\1\1\0\0"
    assert head["outputs"] == [{"name": "y"}]
    assert head["parameters"] == {"signature": "s", "binary_data_output": True}


def test_text_and_bytes_have_their_length_before_them() -> None:
    expected = b"\2\0\0\0\xc3\xbc\3\0\0\0\0\1\2"
    for value in (["ü", b"\0\1\2"], np.array(["ü", b"\0\1\2"], dtype=object)):
        head, tail = parts(infer_body({"x": value}, {"x": "BYTES"}))
        assert (head["inputs"][0]["datatype"], head["inputs"][0]["shape"], tail) == ("BYTES", [2], expected)
    with pytest.raises(Invalid, match="'x' takes text or bytes, got 3"):
        infer_body({"x": ["a", 3]}, {"x": "BYTES"})


def test_lists_get_the_type_of_the_model() -> None:
    head, tail = parts(infer_body({"x": [[1, 2]]}, {"x": "FP32"}))
    assert (head["inputs"][0]["datatype"], tail) == ("FP32", np.array([1, 2], np.float32).tobytes())
    head, _ = parts(infer_body({"x": [0.5]}, {"x": "BF16"}))
    assert head["inputs"][0]["datatype"] == "BF16"
    with pytest.raises(Invalid, match="'x' can't become a tensor of INT32"):
        infer_body({"x": ["a"]}, {"x": "INT32"})


@pytest.mark.parametrize(
    ("array", "datatype", "sent"),
    [
        (np.array([1.5]), "FP32", "FP32"),
        (np.array([1]), "INT32", "INT32"),
        (np.array([1]), "FP32", "FP32"),
        (np.array([2**40]), "INT32", "INT64"),  # would be another number
        (np.array([1.5]), "INT32", "FP64"),
        (np.array([1.5], np.float16), "FP32", "FP16"),  # this type was chosen
    ],
)
def test_arrays_of_a_default_type_get_the_type_of_the_model_if_the_numbers_stay(
    array: Any, datatype: str, sent: str
) -> None:
    assert has_meant_type(array) == (array.dtype == np.float16)
    head, _ = parts(infer_body({"x": array}, {"x": datatype}))
    assert head["inputs"][0]["datatype"] == sent


def test_a_type_that_the_protocol_lacks_is_refused() -> None:
    with pytest.raises(Invalid, match="'x' has the dtype complex128"):
        infer_body({"x": np.array([1j])}, {})


def test_outputs_become_arrays() -> None:
    tail = np.array([1, 2], "<f4").tobytes() + b"\1\0\0\0a\0\0\0\0" + b"\x80\x3f"
    found = read_outputs(
        response(
            [
                {"name": "y", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": 8}},
                {"name": "s", "datatype": "BYTES", "shape": [1, 2], "parameters": {"binary_data_size": 9}},
                {"name": "b", "datatype": "BF16", "shape": [1], "parameters": {"binary_data_size": 2}},
                {"name": "j", "datatype": "INT8", "shape": [1, 2], "data": [3, 4]},
            ],
            tail,
        )
    )
    assert found["y"].dtype == np.float32
    assert {name: array.tolist() for name, array in found.items()} == {
        "y": [[1.0], [2.0]], "s": [[b"a", b""]], "b": [1.0], "j": [[3, 4]],
    }  # fmt: skip


def test_without_numpy_inputs_and_outputs_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    body = infer_body({"x": [[1, 2], [3, 4]]}, {"x": "FP32"})
    assert LENGTH not in body.headers
    assert json.loads(body.content) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}],
        "parameters": {"binary_data_output": False},
    }
    found = read_outputs(response([{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]))
    assert found == {"y": [[1, 2], [3, 4]]}
    with pytest.raises(Invalid, match="no input 'z'"):
        infer_body({"z": [1]}, {"x": "FP32"})


@pytest.mark.parametrize(
    ("value", "datatype", "words"),
    [
        ([1.5, 2.7], "INT32", r"INT32 \(whole numbers from -2147483648 to 2147483647\), got 1.5 at index \[0\]"),
        ([[1, 2], [3, 2.5]], "UINT8", r"got 2.5 at index \[1, 1\]"),
        ([300], "UINT8", "out of bounds"), ([300.0], "UINT8", "'x'"), ([-1.0], "UINT8", "'x'"), ([-1], "UINT64", "'x'"),
        ([2**70], "INT64", "'x'"), ([1e20], "INT64", "'x'"), ([float("nan")], "INT64", "'x'"),
        ([0.5], "BOOL", "true or false"), ([2], "BOOL", "got 2"),
        ([1, 1e6], "FP16", r"FP16 \(numbers up to 65504\), got 1000000.0 at index \[1\]"),
        ([70_000], "FP16", "got 70000"), ([1e39], "FP32", "got 1e[+]39"), ([1e39], "BF16", "got 1e[+]39"),
        (np.array([1e6]), "FP16", "got 1000000.0"), (np.array([1.0, 1e39]), "FP32", r"at index \[1\]"),
        ([None], "FP32", "'x'"), (["1.5"], "FP32", "got text"), ([[1], [2, 3]], "FP32", "'x'"), ([1j], "FP32", "'x'"),
        ([None, 1], "BOOL", "'x'"),
    ],
)  # fmt: skip
def test_numbers_that_would_change_are_refused(value: Any, datatype: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        infer_body({"x": value}, {"x": datatype})


@pytest.mark.parametrize(
    ("value", "datatype", "sent"),
    [
        ([1.0, 2.0], "INT32", [1, 2]), ([True, False], "INT8", [1, 0]), ([0, 1.0], "BOOL", [False, True]),
        ([2**53 + 1, 1.0], "INT64", [2**53 + 1, 1]), ([2**64 - 1], "UINT64", [2**64 - 1]),
        ([0.1, float("inf"), 1], "FP32", [np.float32(0.1), np.inf, 1]), (65504, "FP16", 65504),
        ([Decimal("0.5"), 2], "FP64", [0.5, 2]), ([], "INT32", []), (np.array([np.inf]), "FP16", [np.inf]),
    ],
)  # fmt: skip
def test_numbers_that_stay_the_same_are_converted(value: Any, datatype: str, sent: Any) -> None:
    _, tail = parts(infer_body({"x": value}, {"x": datatype}))
    expected = np.array(sent, NUMPY_TYPES[datatype])
    assert tail == expected.tobytes()
