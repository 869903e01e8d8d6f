"""Rows of version 1: which models they are for, and how paths may be written."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.ipc.messages import ModelOptions, ModelVersion
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.api.v1 import predict_json, routing
from tfserve.web.api.v1.core import Address, PredictCall, PredictFormat
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import PredictionRequest, PredictionResult


async def never(_: str) -> None:
    raise AssertionError


def model(*inputs: TensorSpec) -> Model:
    signature = msgspec.to_builtins(Signature(inputs, (TensorSpec("y", "float32", None),)))
    version = ModelVersion(
        id=1, version=1, state="active", addresses=[], options=ModelOptions(), signatures={"serving_default": signature}
    )
    return Model("m", version, timeout_s=1, limit=1, wake=never)


ROWS, SCALAR = TensorSpec("x", "float32", (-1, 2)), TensorSpec("rate", "float32", ())


@pytest.mark.parametrize("body", [b'{"instances": [{"x": [1, 2], "rate": 3}]}', b'{"instances": [[1, 2]]}'])
def test_a_scalar_beside_rows_is_requested_in_columns(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"'rate'.*Send columns instead"):
        predict_json.read(body, model(ROWS, SCALAR))
    request = predict_json.read(b'{"inputs": {"x": [[1, 2]], "rate": 3}}', model(ROWS, SCALAR)).request
    assert request.inputs["rate"].shape == ()


@pytest.mark.parametrize("shapes", [[(37,)], [(37, 4)], [()], [(2, 3), (3,)], [(2,), ()], [(0, 2)]])
def test_outputs_that_are_not_one_row_for_each_instance_are_refused_in_rows(shapes: Any) -> None:
    result = PredictionResult({f"y{n}": np.zeros(shape, np.float32) for n, shape in enumerate(shapes)}, 1)
    request = PredictionRequest({"x": np.zeros(2)})
    with pytest.raises(Invalid, match=r"2 instances, .*Send columns instead"):
        predict_json.write(PredictCall(request, PredictFormat.ROWS), result)
    assert predict_json.write(PredictCall(request, PredictFormat.COLUMNS), result).startswith(b'{"outputs":')


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/models/a:predict", b"/v1/models/a%3Apredict", b"/v1/models/a%3apredict", b"/v1/models/a:predict/",
        b"/v1/models/a%3APredict/", b"/V1/models/a:PREDICT",
    ],
)  # fmt: skip
def test_a_path_may_have_an_escaped_colon_and_a_slash_at_its_end(path: bytes) -> None:
    assert routing.read("POST", path) == Address("predict", "a")
    versioned = path.replace(b"/a", b"/a/versions/2", 1)
    assert routing.read("POST", versioned) == Address("predict", "a", 2)


def test_reads_may_have_a_slash_at_their_end_too() -> None:
    assert routing.read("GET", b"/v1/models/") == Address("list")
    assert routing.read("GET", b"/v1/models/a/metadata/") == Address("metadata", "a")
    for path in (b"/v1/models/a//", b"/v1/models/a%3Afit", b"/v1/models//a:predict"):
        with pytest.raises(Invalid, match="Malformed request"):
            routing.read("POST", path)


@pytest.mark.parametrize(
    ("dtype", "body", "expected"),
    [
        ("string", b'{"instances": [{"b64": {"b64": "aGk="}}]}', [b"hi"]),
        ("string", b'{"instances": [{"b64": "aGk="}]}', [b"hi"]),
        ("string", b'{"inputs": {"b64": ["hi"]}}', [b"hi"]),
        ("string", b'{"inputs": {"b64": [{"b64": "aGk="}]}}', [b"hi"]),
        ("int64", b'{"instances": [{"b64": 7}]}', [7]),
    ],
)
def test_an_input_may_be_called_b64(dtype: str, body: bytes, expected: list[Any]) -> None:
    request = predict_json.read(body, model(TensorSpec("b64", dtype, (-1,)))).request
    assert request.inputs["b64"].tolist() == expected


def test_a_value_in_b64_must_be_text() -> None:
    with pytest.raises(Invalid, match="expected text or"):
        predict_json.read(b'{"instances": [{"b64": 7}]}', model(TensorSpec("x", "string", (-1,))))
