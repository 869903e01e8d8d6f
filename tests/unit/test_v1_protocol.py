"""The parts of TensorFlow Serving's REST API that need no server."""

from __future__ import annotations

import ast
import contextlib
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfserve.errors import Invalid, TFserveError, Unsupported
from tfserve.ipc.messages import ModelVersion
from tfserve.web.api.v1 import examples_json, metadata, predict_json, request_examples, routing
from tfserve.web.api.v1.core import Address, PredictCall, PredictFormat
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import PredictionRequest, PredictionResult


async def asleep(*_: Any) -> None:
    """No model is woken here."""


def model(
    inputs: dict[str, Any], outputs: dict[str, Any], *, state: str = "active", method: str = "", **told: Any
) -> Model:
    """A model that nobody computes; each tensor is given as its dtype and shape."""
    tensors = [
        [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    signatures = {"serving_default": {"inputs": tensors[0], "outputs": tensors[1], "method": method}}
    version = ModelVersion(id=1, version=3, state=state, signatures=signatures, **told)
    return Model("m", version, timeout_s=1, limit=1, wake=asleep)


@pytest.mark.parametrize(
    ("method", "path", "address"),
    [
        ("GET", b"/v1/models", Address("list")),
        ("HEAD", b"/v1/models/m", Address("status", "m")),
        ("GET", b"/v1/models/a%20b%2Fc/versions/007/METADATA", Address("metadata", "a b/c", 7)),
        ("GET", b"/v1/models/m/labels/new%20one/example", Address("example", "m", None, "new one")),
        ("POST", b"/v1/Models/m/versions/9223372036854775807:Predict", Address("predict", "m", 2**63 - 1)),
        ("POST", b"/v1/models/m/labels/l:classify", Address("classify", "m", None, "l")),
        ("POST", b"/v1/models/m:regress", Address("regress", "m")),
        ("POST", b"/v1/models/m%3Apredict:predict", Address("predict", "m:predict")),
    ],
)
def test_a_path_says_what_is_asked_of_which_model(method: str, path: bytes, address: Address) -> None:
    assert routing.read(method, path) == address


@pytest.mark.parametrize(
    ("headers", "wishes"),
    [
        ([], (3, None)),
        ([(b"priority", b"u=0")], (0, None)),
        ([(b"priority", b"i, u=7")], (7, None)),
        ([(b"priority", b"u=9")], (3, None)),
        ([(b"priority", b"nu=1")], (3, None)),
        ([(b"request-timeout", b"2.5"), (b"priority", b"u=1;x")], (1, 2.5)),
    ],
)
def test_headers_say_how_urgent_it_is_and_how_long_the_client_waits(headers: Any, wishes: Any) -> None:
    assert read_priority_headers(dict(headers)) == wishes


@pytest.mark.parametrize("value", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"1_0", "\u0661".encode()])
def test_a_timeout_must_be_a_number_of_seconds(value: bytes) -> None:
    with pytest.raises(Invalid, match="Request-Timeout"):
        read_priority_headers({b"request-timeout": value})


def test_types_that_json_can_not_say_are_refused_as_tensorflow_serving_does() -> None:
    complex_input = model({"z": ("complex64", [-1])}, {"y": ("float32", [-1])})
    with pytest.raises(Unsupported, match="Conversion of JSON Value to type: complex64"):
        predict_json.read(b'{"inputs": [1]}', complex_input)
    with pytest.raises(Invalid, match=r"Failed to process element: 0 of 'instances' list. Error: Conversion of JSON"):
        predict_json.read(b'{"instances": [1]}', complex_input)
    with pytest.raises(Unsupported, match="'z' takes complex64"):
        request_examples.example(complex_input, "http://here")


def test_long_rows_given_as_objects_are_put_together() -> None:
    one = model({"x": ("float32", [-1, 3000]), "n": ("int64", [-1])}, {"y": ("float32", [-1])})
    numbers = list(range(3000))
    for count in (1, 2, 3):
        body = str({"instances": [{"x": numbers, "n": n} for n in range(count)]}).replace("'", '"').encode()
        read = predict_json.read(body, one)
        assert read.form is PredictFormat.ROWS
        assert read.request.inputs["x"].tolist() == [numbers] * count
        assert read.request.inputs["n"].tolist() == list(range(count))
    mixed = str({"instances": [{"x": numbers, "n": 1}, {"x": numbers[1:], "n": 1}]}).replace("'", '"').encode()
    with pytest.raises(Invalid, match="must have the same shape"):
        predict_json.read(mixed, one)
    with pytest.raises(Invalid, match="JSON Parse error"):
        predict_json.read(b'{"instances": [{"x": [1 ' + b" " * 9000 + b' 2], "n": 1}]}', one)


def asked(rows: int | None) -> PredictCall:
    """A request in rows, or in columns."""
    return PredictCall(
        PredictionRequest({"x": np.zeros(rows or 1)}), PredictFormat.COLUMNS if rows is None else PredictFormat.ROWS
    )


def test_rows_of_several_outputs_are_all_written_when_there_are_many() -> None:
    count = 2 * predict_json.ROWS_AT_ONCE + 1
    outputs = {"a": np.arange(count), "b": np.where(np.arange(count) == 7, np.nan, 0.5)}
    text = predict_json.write(asked(count), PredictionResult(outputs, 1))
    rows = json.loads(text)["predictions"]
    assert [row["a"] for row in rows] == list(range(count))
    assert [index for index, row in enumerate(rows) if row["b"] != 0.5] == [7]


def test_rows_of_several_outputs_are_written_with_strings_and_words() -> None:
    outputs = {
        "y": np.array([[1, np.nan], [2, 3]], np.float32),
        "null": np.array([[b"null"], [b"\xff"]], dtype=object),
        "n": np.array([1, 2]),
    }
    expected = b'[{"y":[1.0,NaN],"null":["null"],"n":1},{"y":[2.0,3.0],"null":[{"b64":"/w=="}],"n":2}]'
    assert predict_json.write(asked(2), PredictionResult(outputs, 1)) == b'{"predictions":' + expected + b"}"
    columns = predict_json.write(asked(None), PredictionResult({"a": np.array(1), "b": np.zeros((0, 2))}, 1))
    assert columns == b'{"outputs":{"a":1,"b":[]}}'


@pytest.mark.parametrize(("state", "told"), [("draining", "UNLOADING"), ("loading", "LOADING"), ("failed", "END")])
def test_states_have_tensorflow_servings_names(state: str, told: str) -> None:
    (status,) = metadata.status([model({}, {}, state=state, reason="why")])["model_version_status"]
    assert (status["version"], status["state"]) == ("3", told)
    assert status["status"]["error_message"] == ("why" if state == "failed" else "")


def test_a_model_whose_worker_died_is_loading_with_the_reason() -> None:
    (status,) = metadata.status([model({}, {}, reason="its worker died")])["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("LOADING", "UNAVAILABLE")
    assert status["status"]["error_message"] == "its worker died"


def test_a_shape_of_any_rank_is_reported_as_such() -> None:
    told = metadata.metadata(model({"x": ("float32", None)}, {}))
    tensor = told["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert tensor["tensor_shape"] == {"dim": [], "unknown_rank": True}


def test_the_request_to_paste_for_a_picture_is_an_expression() -> None:
    told = request_examples.example(model({"x": ("float32", [-1, 224, 224, 3])}, {}), "http://h:1")
    assert told["json"] is None
    assert "Array(224).fill(Array(224).fill(Array(3).fill(0.5)))" in told["javascript"]
    tree = ast.parse(told["python"])
    body = next(node for node in tree.body if isinstance(node, ast.Assign))
    value = eval(compile(ast.Expression(body.value), "", "eval"))
    assert np.shape(value["inputs"]["x"]) == (1, 224, 224, 3)
    assert told["curl"].startswith("python3 -c ")


def test_the_request_to_paste_quotes_what_a_shell_would_read() -> None:
    odd = model({"it's": ("string", [-1])}, {})
    odd.name = "a b/$(c)"
    told = request_examples.example(odd, "http://h:1")
    assert told["url"] == "http://h:1/v1/models/a%20b%2F%24%28c%29:predict"
    assert told["json"] == {"instances": ["text"]}
    assert request_examples.example(model({"k": ("int64", [])}, {}), "")["json"] == {"inputs": 0}


def test_an_example_is_written_as_protocol_buffers_want_it() -> None:
    assert examples_json.encode({}) == b"\n\0"
    integers = "0a160a140a0161120f1a0d0a0b01" + "ff" * 9 + "01"  # 1, and -1 as ten bytes
    assert examples_json.encode({"a": [True, -1]}).hex() == integers
    with pytest.raises(TFserveError, match="Feature 'a'"):
        examples_json.encode({"a": {"b64": 3}})


KEYS = st.sampled_from(["instances", "inputs", "signature_name", "x", "n", "b64", "examples", "context", "other"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.just("serving_default")
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=15
)


MODELS = [
    model({"x": ("string", None)}, {"classes": ("string", [-1, 2])}, method="classify"),
    model({"x": ("float32", [-1, 2]), "n": ("int64", [-1])}, {"y": ("float32", [-1])}),
    model({"x": ("float64", None)}, {"y": ("float32", [-1])}),
]


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.sampled_from(["", " " * 9000]))
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_json_comes_it_is_read_or_refused(body: dict[str, Any], padding: str) -> None:
    text = json.dumps(body).replace("[", "[" + padding).encode()
    for each in MODELS:
        for read in (predict_json.read, partial(examples_json.read, verb="classify")):
            with contextlib.suppress(TFserveError):
                read(text, each)
