"""Tensors of version 2: JSON of any nesting, bytes behind it, and what is refused before anything is allocated."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfserve.errors import Invalid, Unsupported
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.web.api.v2 import classification_extension, core, json_tensors, raw_tensors, rest_infer
from tfserve.web.api.v2.requests import decode_infer

NUMBERS = [name for name in DTYPES if name not in ("string", "float16", "bfloat16", "bool")]


def spec(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", dtype, shape or None)


def read(body: Any, *specs: TensorSpec, tail: bytes = b"") -> dict[str, Array]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = Signature(specs, specs)
    given, values = decode_infer(text), rest_infer.BodyValues(memoryview(tail))
    arrays = core.read_inputs(given.inputs, signature, values.read)
    values.require_end(given.inputs)
    return arrays


def tensor(shape: list[Any], data: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def refused(body: Any, *specs: TensorSpec, tail: bytes = b"") -> str:
    with pytest.raises(Invalid) as error:
        read(body, *specs, tail=tail)
    return str(error.value)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("form", ["flat", "nested", "large and flat", "large and nested"])
def test_numbers_arrive_exactly_however_they_are_nested(dtype: str, form: str) -> None:
    kind = np.dtype(dtype)
    shape = (100, 40, 2) if "large" in form else (2, 2)
    if kind.kind == "f":
        values = np.random.default_rng(1).standard_normal(shape).astype(kind)
    else:
        limits = np.iinfo(kind)
        values = np.random.default_rng(1).integers(limits.min, limits.max, shape, kind, endpoint=True)
        values[0] = [limits.min, limits.max] if values.ndim == 2 else [[limits.min, limits.max]] * 40
    data = (values if "nested" in form else values.ravel()).tolist()
    body = {"inputs": [tensor(list(shape), data, DTYPES[dtype].v2)]}
    array = read(body, spec(dtype, -1, *shape[1:]))["x"]
    assert array.dtype == kind
    np.testing.assert_array_equal(array, values)


def test_several_large_inputs_are_reported_apart() -> None:
    first, second = np.arange(6000.0), -np.arange(8000.0).reshape(80, 100)
    body = {
        "inputs": [
            {"name": "a", "shape": [6000], "datatype": "FP32", "data": first.tolist()},
            {"data": second.tolist(), "name": "b", "shape": [80, 100], "datatype": "FP64"},
        ]
    }
    got = read(body, TensorSpec("a", "float32", (-1,)), TensorSpec("b", "float64", (-1, 100)))
    np.testing.assert_array_equal(got["a"], first.astype(np.float32))
    np.testing.assert_array_equal(got["b"], second)


@pytest.mark.parametrize("count", [6, 20_000])
def test_ragged_and_misnested_lists_are_refused(count: int) -> None:
    flat = [1.0] * count
    half = count // 2
    for shape, data in (
        ([2, half], [flat[:half], flat[: half - 1]]),
        ([2, half], [flat[: half - 1], flat[: half + 1]]),
        ([2, half], [flat, []]),
        ([2, half], [*flat[:half], flat[:half]]),
        ([2, half], [[flat[:half]], [flat[:half]]]),
        ([half, 2], [flat[:half], flat[:half]]),
        ([2, half], [flat[:half], flat[:half], []]),
    ):
        text = refused({"inputs": [tensor(shape, data)]}, spec("float32", -1, shape[1]))
        assert "'x'" in text


@pytest.mark.parametrize(
    "shape",
    [[-1, 2], [2, -2], [2**62, 2**62], [0, 10**30], [2, 2**63], [10**4000], [1] * 1000, [2], [2, 2, 1], [0, 2**50, 2]],
)  # fmt: skip
def test_impossible_shapes_are_refused_before_anything_is_allocated(shape: list[int]) -> None:
    for dims in ((-1, 2), ()):
        if not dims and len(shape) < 4 and 0 < math.prod(shape) < 100:
            continue  # any shape will do there
        for body in (tensor(shape, []), {**tensor(shape, None), "parameters": {"binary_data_size": 0}}):
            assert "'x'" in refused({"inputs": [body]}, spec("float32", *dims))


@pytest.mark.parametrize("data", [[1, 2, 3], [1, 2, 3, 4, 5], [], [[1, 2, 3, 4]], [1] * 30_000])
def test_a_wrong_number_of_elements_is_refused(data: Any) -> None:
    assert "'x'" in refused({"inputs": [tensor([2, 2], data)]}, spec("float32", -1, 2))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", True), ("float32", "1"), ("float32", None), ("float32", 1e39), ("float32", {"a": 1}),
        ("int64", 1.0), ("int64", 2**63), ("int64", True), ("uint8", 256), ("uint8", -1), ("int8", 128),
        ("int32", 2**31), ("uint64", -1), ("uint64", 2**64), ("bool", 1), ("bool", "true"), ("string", 1),
        ("string", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [2, 9000])
def test_values_of_another_type_or_out_of_range_are_refused(dtype: str, value: Any, count: int) -> None:
    good = {"string": "text", "bool": True}.get(dtype, 1)
    body = {"inputs": [tensor([count], [good] * (count - 1) + [value], DTYPES[dtype].v2)]}
    assert "'x'" in refused(body, spec(dtype, -1))


def test_integers_beyond_the_reach_of_a_double_stay_exact() -> None:
    for count in (1, 5000):
        array = read({"inputs": [tensor([count], [2**53 + 1] * count, "INT64")]}, spec("int64", -1))["x"]
        assert array.tolist() == [2**53 + 1] * count


def test_text_and_bytes_in_json_become_bytes() -> None:
    body = {"inputs": [tensor([2], ["Grüße", {"b64": "AP8="}], "BYTES")]}
    assert read(body, spec("string", -1))["x"].tolist() == ["Grüße".encode(), b"\0\xff"]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_numbers_in_json(datatype: str) -> None:
    dtype = {"FP16": "float16", "BF16": "bfloat16"}[datatype]
    assert "binary" in refused({"inputs": [tensor([1], [1.0], datatype)]}, spec(dtype, -1))


def test_unknown_missing_repeated_and_wrong_inputs_are_refused_with_what_there_is() -> None:
    x = spec("float32", -1)
    assert "'x'" in refused({"inputs": [{**tensor([1], [1]), "name": "y"}]}, x)
    assert "more than once" in refused({"inputs": [tensor([1], [1])] * 2}, x)
    assert "'x'" in refused({"inputs": []}, x)
    for datatype in ("FP64", "fp32", "", "BF17"):
        assert "FP32" in refused({"inputs": [tensor([1], [1], datatype)]}, x)
    assert "'c'" in refused({"inputs": [{**tensor([1], [1]), "name": "c"}]}, TensorSpec("c", "complex64", (1,)))


@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b"{}", b"", b'{"inputs"', b'{"inputs":null}', b'{"inputs":{}}', b'{"inputs":[null]}',
        b"\xff\xfe", b'{"inputs":[{"name":1}]}', b'{"inputs":[{"name":"x","shape":"2","datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":[true],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":[1.5],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}', b'{"inputs":[]}{"inputs":[]}',
        b'{"id":7,"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[1]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":NaN}]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}',
        b"[" * 250_000, b'{"inputs":' + b"[" * 250_000, b'{"inputs":[{"data":' + b"[" * 250_000,
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 99 + b"1" + b"]" * 99 + b"}]}",
        b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes) -> None:
    assert refused(body, spec("float32", -1))


@pytest.mark.parametrize("name", [name for name in DTYPES if name != "string"])
def test_numbers_go_through_bytes_unchanged(name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    for shape in ((3, 2), (), (0, 2), (1, 2, 3, 4)):
        values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        data = bytes(raw_tensors.write(values))
        assert data == values.tobytes()
        array = raw_tensors.read(memoryview(b"?" + data)[1:], TensorSpec("x", name, None), shape)
        assert array.dtype == dtype
        assert array.tobytes() == data
        assert array.shape == shape


def test_strings_go_through_bytes_unchanged() -> None:
    values = np.array([b"", b"abc", "ü".encode(), b"\0\xff"], dtype=object).reshape(2, 2)
    data = raw_tensors.write(values)
    assert bytes(data[:7]) == b"\0\0\0\0\3\0\0"
    assert raw_tensors.read(data, spec("string"), (2, 2)).tolist() == values.tolist()
    for wrong in (b"\1", b"\5\0\0\0abc", b"\xff\xff\xff\xffa", b"", bytes(data) + b"\0\0\0\0"):
        with pytest.raises(Invalid, match="'x'"):
            raw_tensors.read(memoryview(wrong), spec("string"), (2, 2))


def test_bytes_that_do_not_add_up_are_refused_with_the_name_of_the_input() -> None:
    def given(size: Any, **more: Any) -> dict[str, Any]:
        return {
            "inputs": [
                {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}, **more}
            ]
        }

    x = spec("float32", -1)
    assert read(given(8), x, tail=bytes(8))["x"].tolist() == [0, 0]
    for size, tail in ((8, 7), (8, 9), (7, 7), (0, 0), (-1, 8), (2**70, 8), (4, 4), (8, 0)):
        assert "'x'" in refused(given(size), x, tail=bytes(tail))
    for size in ("8", 8.0, True, [8]):
        assert "binary_data_size" in refused(given(size), x, tail=bytes(8))
    assert "both" in refused(given(8, data=[1, 2]), x, tail=bytes(8))
    assert read(given(8, data=None), x, tail=bytes(8))["x"].tolist() == [0, 0]
    assert "'x'" in refused({"inputs": [tensor([2], [1, 2])]}, x, tail=b"more")


@pytest.mark.parametrize(
    "header", [b"-1", b"x", b"", b"1.5", b"1_0", b"101", b"99999999999999999999", b"0x1", "²".encode()]
)
def test_a_wrong_length_of_the_json_is_refused(header: bytes) -> None:
    with pytest.raises(Invalid, match="Inference-Header-Content-Length"):
        rest_infer.length_of_json(header, 100)


def test_booleans_as_bytes_are_0_or_1() -> None:
    with pytest.raises(Invalid, match="'x'"):
        raw_tensors.read(memoryview(b"\2"), spec("bool", 1), (1,))


def test_a_raw_body_finds_its_one_open_size() -> None:
    body = np.arange(6, dtype=np.float32).tobytes()
    assert raw_tensors.read_whole_body(body, spec("float32", -1, 3)).shape == (2, 3)
    assert raw_tensors.read_whole_body(body, spec("float32", 6)).shape == (6,)
    assert raw_tensors.read_whole_body(b"any", spec("string", -1)).tolist() == [b"any"]
    assert raw_tensors.read_whole_body(b"any", spec("string", 1, 1)).tolist() == [[b"any"]]
    for wrong in (
        spec("float32", -1, -1),
        spec("float32", -1, 4),
        spec("float32", 5),
        spec("float32"),
        spec("string", 2),
    ):
        with pytest.raises(Invalid, match="'x'"):
            raw_tensors.read_whole_body(body, wrong)


def test_shared_memory_is_reported_to_be_missing() -> None:
    with pytest.raises(Unsupported):
        read({"inputs": [tensor([1], [1], parameters={"shared_memory_region": "a"})]}, spec("float32", -1))


def test_values_that_json_can_not_hold_are_reported() -> None:
    json_tensors.check_finite(np.full(3, 1e308), "y")
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(Invalid, match=r"'y'.*binary"):
            json_tensors.check_finite(np.array([1, value], np.float32), "y")
    with pytest.raises(Invalid, match=r"'y'.*binary"):
        json_tensors.write(np.array([b"\xff"], dtype=object), "y")


def test_the_best_classes_are_reported_with_their_labels() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)
    y = spec("float32", -1, 3)
    best = classification_extension.best(scores, y, 2, ["cat", "dog"])
    assert best.tolist() == [[b"0.700000:1:dog", b"0.200000:2"], [b"0.500000:0:cat", b"0.250000:1:dog"]]
    assert classification_extension.best(scores[0], y, 9, []).tolist() == [b"0.700000:1", b"0.200000:2", b"0.100000:0"]
    assert classification_extension.best(np.array([[3, 9]]), y, 1, []).tolist() == [[b"9:1"]]
    # One probability with two labels is the second label's, so it is not called by the first.
    assert classification_extension.best(np.array([[0.9]]), y, 1, ["cat", "dog"]).tolist() == [[b"0.900000:0"]]
    assert classification_extension.best(scores.astype(ml_dtypes.bfloat16), y, 1, []).shape == (2, 1)
    with pytest.raises(Invalid):
        classification_extension.best(np.array([b"a"], dtype=object), y, 1, [])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([name for name in DTYPES if name not in ("string", "float16", "bfloat16")]).flatmap(
        lambda name: arrays.arrays(
            np.dtype(name), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
            elements=arrays.from_dtype(np.dtype(name), allow_nan=False, allow_infinity=False),
        )
    )
)  # fmt: skip
def test_any_array_survives_json_and_bytes(values: Array) -> None:
    x = TensorSpec("x", values.dtype.name, None)
    written = json_tensors.write(values, "x")
    text = orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)
    np.testing.assert_array_equal(json_tensors.read(orjson.loads(text), x, values.shape), values)
    if values.size:
        np.testing.assert_array_equal(json_tensors.read(values.tolist(), x, values.shape), values)
    np.testing.assert_array_equal(raw_tensors.read(raw_tensors.write(values), x, values.shape), values)


WORDS = st.sampled_from(
    ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "x", "FP32", "BYTES", "INT8"]
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = {
    "name": st.just("x") | JSON_VALUES,
    "shape": st.lists(st.integers(-2, 3) | st.just(2**62), max_size=3) | JSON_VALUES,
    "datatype": WORDS | JSON_VALUES,
}
TENSORS = st.fixed_dictionaries(FIELDS, optional={"data": JSON_VALUES, "parameters": JSON_VALUES})


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=2) | JSON_VALUES}), st.binary(max_size=12))
def test_any_request_is_read_or_refused(body: Any, tail: bytes) -> None:
    with contextlib.suppress(Invalid, Unsupported):
        arrays = read(body, spec("float32", -1), tail=tail)
        assert arrays["x"].dtype == np.float32
        assert arrays["x"].ndim == 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(-1, 5), max_size=3), st.sampled_from(sorted(DTYPES)))
def test_any_bytes_are_read_or_refused(data: bytes, shape: list[int], dtype: str) -> None:
    body = {"name": "x", "shape": shape, "datatype": DTYPES[dtype].v2, "parameters": {"binary_data_size": len(data)}}
    with contextlib.suppress(Invalid):
        assert read({"inputs": [body]}, spec(dtype), tail=data)["x"].shape == tuple(shape)
