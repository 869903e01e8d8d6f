"""Whatever JSON value is given for a tensor of whatever type, it is read or refused: nothing else may be raised."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tfserve.errors import Kind, TFserveError
from tfserve.ipc.messages import ModelOptions, ModelVersion
from tfserve.runtimes.echo import EchoModel
from tfserve.tensors.casting import cast
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.tensors.tensor_json import decode_leniently, to_array
from tfserve.web.api.v1 import examples_json, predict_json
from tfserve.web.api.v2 import core, rest_infer
from tfserve.web.api.v2.requests import decode_infer
from tfserve.web.predictions.live_models import Model
from tfserve.worker.model.predictor import Predictor

TYPES = [*DTYPES, "complex64"]
SIGNATURES = {name: Signature((TensorSpec("x", name, None),), (TensorSpec("x", name, None),)) for name in TYPES}

lone = st.sampled_from(["\ud800", "a\udc00", "\udfff\ud800"])
texts = st.text(max_size=8) | lone | st.sampled_from(["é", "QQ", "QQ==", "Q Q==", "=", "QQ==\n", "💣", "Q\x00=="])
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**400, -(10**4000), 1e308, 5e-324, -0.0, 65520.0, 3.5e38])
)
leaves = st.none() | st.booleans() | numbers | texts | texts.map(lambda text: {"b64": text})
keys = texts | st.sampled_from(["b64", "x", ""])
values = st.recursive(leaves, lambda each: st.lists(each, max_size=4) | st.dictionaries(keys, each, max_size=3))


def deep(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


ODD = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def refused_or_read(read: Any, *args: Any) -> None:
    error = None
    try:
        read(*args)
    except TFserveError as refused:
        error = refused
    assert error is None or (error.kind != Kind.INTERNAL and error.message.encode()), error


@ODD
@given(values)
@example({"b64": "é"})
@example([{"b64": "\ud800"}, "\ud800"])
@example(deep(40, 1))
@example(deep(500, []))
@example([[], [[]], []])
def test_any_value_is_cast_to_any_type_or_refused(value: Any) -> None:
    for dtype in TYPES:
        refused_or_read(cast, value, TensorSpec("x", dtype, None), "x")
        refused_or_read(to_array, value, TensorSpec("x", dtype, (-1, 2)), "x")


@ODD
@given(st.dictionaries(keys, values, max_size=3))
@example({"x": {"b64": "é"}})
@example({"x": [10**400]})
@example({"\ud800": "a"})
def test_any_features_become_an_example_or_are_refused(features: dict[str, Any]) -> None:
    refused_or_read(examples_json.encode, features)


def text_of(value: Any) -> bytes:
    """JSON as an odd client writes it: bare NaN, and halves of surrogate pairs as escapes."""
    return json.dumps(value).encode()


predictor = Predictor(EchoModel("echo", SIGNATURES, remarks=[]))


@ODD
@given(values)
@example({"b64": "é"})
@example(deep(500, 1))
def test_any_request_to_a_workers_model_is_answered(value: Any) -> None:
    text = text_of(value)
    for dtype in TYPES:
        body = b'{"fetches": "x", "signature": "' + dtype.encode() + b'", "feed_dict": {"x": ' + text + b"}}"
        (answer,) = predictor.predict([body])
        if answer.error is not None:
            assert msgspec.json.decode(answer.error)["code"] != Kind.INTERNAL, answer.error


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"fetches": "x", "feed_dict": []}', b'{"fetches": [1]}']
)
def test_a_request_that_is_none_is_answered_by_the_worker_too(body: bytes) -> None:
    (answer,) = predictor.predict([body])
    assert msgspec.json.decode(answer.error or b"{}")["code"] == Kind.INVALID


async def never(_: str) -> None:
    raise AssertionError


@ODD
@given(values, st.sampled_from(["instances", "inputs"]), st.booleans(), st.sampled_from(TYPES))
@example({"b64": "é"}, "inputs", False, "string")
@example([{"b64": "é"}], "instances", True, "string")
def test_any_body_is_read_or_refused_by_v1_and_v2(value: Any, key: str, named: bool, dtype: str) -> None:
    model = Model("m", VERSION, timeout_s=1, limit=1, wake=never)
    rows = [{"x": value}] if key == "instances" else {"x": value}
    body = text_of({key: rows if named else value, "signature_name": dtype})
    refused_or_read(predict_json.read, body, model)
    datatype = DTYPES[dtype].v2 if dtype in DTYPES else "C64"
    for shape in ([1], [len(value)] if isinstance(value, list) else [], value):
        tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": value}
        refused_or_read(read_v2, text_of({"inputs": [tensor]}), SIGNATURES[dtype])


VERSION = ModelVersion(
    id=1, version=1, state="active", addresses=[], options=ModelOptions(),
    signatures={name: msgspec.to_builtins(each) for name, each in SIGNATURES.items()},
)  # fmt: skip


def read_v2(body: bytes, signature: Signature) -> None:
    core.read_inputs(decode_infer(body).inputs, signature, rest_infer.BodyValues(memoryview(b"")).read)


@ODD
@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    refused_or_read(decode_leniently, body)
    refused_or_read(decode_infer, body)
