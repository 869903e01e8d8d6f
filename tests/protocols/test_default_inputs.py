"""Inputs of SavedModels with a default value are optional over every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made import made_by
from tests.protocols.grpc_port import Port, infer_request, predict_request, tensor
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tfserving_pb2 as v1

pytestmark = pytest.mark.slow  # its processes import TensorFlow

MAKE = Path(__file__).parents[1] / "worker" / "make_signature_defaults.py"
X = np.float32([[1, 2]])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    running = Port(tmp_path_factory.mktemp("defaults"))
    folder = made_by(MAKE, tmp_path_factory, running.server.roots / "models")
    for name in ("scaled", "weighted", "complete"):
        running.deploy(name, folder / name)
    yield running
    running.close()


def predict(port: Port, body: dict[str, Any], model: str) -> Any:
    return port.server.http.post(f"/v1/models/{model}:predict", json=body).json()


def test_v1_columns_may_set_them(port: Port) -> None:
    assert predict(port, {"inputs": {"x": [[1, 2]]}}, "scaled")["outputs"]["y"] == [[2.5, 4.25]]
    assert predict(port, {"inputs": {"x": [[1, 2]], "factor": 3}}, "scaled")["outputs"]["y"] == [[3.5, 6.25]]
    assert predict(port, {"inputs": {"factor": 3}}, "scaled")["error"] == "Missing input 'x'. Required: 'x'."
    misspelt = predict(port, {"inputs": {"x": [[1, 2]], "facter": 3}}, "scaled")["error"]
    assert "Unknown input 'facter' (did you mean 'factor'?)" in misspelt
    assert predict(port, {"inputs": {}}, "complete") == {"outputs": [[1, 2]]}
    assert predict(port, {"inputs": {"negate": True}}, "complete") == {"outputs": [[-1, -2]]}


@pytest.mark.parametrize(
    ("model", "rows", "expected"),
    [
        ("scaled", [[1, 2]], [{"label": "é", "y": [2.5, 4.25]}]),
        (
            "scaled",
            [{"x": [1, 2]}, {"x": [0, 0]}],
            [{"label": "é", "y": [2.5, 4.25]}, {"label": "é", "y": [0.5, 0.25]}],
        ),
        ("weighted", [{"x": 1}, {"x": 2}], [1, 2]),
        ("weighted", [{"x": 1, "weight": 3}, {"x": 2, "weight": 4}], [3, 8]),
        ("complete", [{"x": [1, 2]}], [[1, 2]]),
    ],
)
def test_v1_rows_may_set_those_that_have_rows(port: Port, model: str, rows: Any, expected: Any) -> None:
    assert predict(port, {"instances": rows}, model) == {"predictions": expected}


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        ("scaled", [{"x": [1, 2], "factor": 3}], "'factor' takes float32 of shape []: one value for the whole request"),
        ("weighted", [{"x": 1, "weight": 3}, {"x": 2}], "element: 1 of 'instances' list: it has other inputs than the"),
        ("weighted", [{"x": 1}, {"x": 2, "weight": 3}], "element: 1 of 'instances' list: it has other inputs than the"),
        ("weighted", [{"x": 1, "wait": 3}], "Unknown input 'wait' (did you mean 'weight'?). Available: 'x', 'weight'."),
        ("complete", [{}, {}], "The rows of 'instances' are empty, so they can't be counted. Send columns"),
    ],
)
def test_v1_refuses_other_rows(port: Port, model: str, rows: Any, message: str) -> None:
    assert message in predict(port, {"instances": rows}, model)["error"]


def test_v1_over_grpc(port: Port) -> None:
    inputs = {"x": tensor((1, 2), "DT_FLOAT", float_val=[1, 2])}
    for given, expected in (({}, [2.5, 4.25]), ({"factor": tensor((), "DT_FLOAT", float_val=[3])}, [3.5, 6.25])):
        found = port.ask("Predict", predict_request("scaled", {**inputs, **given}), v1.PredictResponse).outputs["y"]
        assert [*found.float_val] == expected
    found = port.ask("Predict", predict_request("complete", {}), v1.PredictResponse).outputs["y"]
    assert [*found.float_val] == [1, 2]


def test_v2_over_both_edges(port: Port) -> None:
    factor = {"name": "factor", "shape": [], "datatype": "FP32", "data": [3]}
    x = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    outputs = [{"name": "y"}]
    for inputs, expected in (([x], [2.5, 4.25]), ([factor, x], [3.5, 6.25])):
        body = {"inputs": inputs, "outputs": outputs}
        assert port.server.http.post("/v2/models/scaled/infer", json=body).json()["outputs"][0]["data"] == expected
    nothing = port.server.http.post("/v2/models/complete/infer", json={"inputs": []}).json()
    assert nothing["outputs"][0]["data"] == [1, 2]
    for arrays, expected in (({"x": X}, [2.5, 4.25]), ({"factor": np.float32(3), "x": X}, [3.5, 6.25])):
        response = port.call("ModelInfer", infer_request("scaled", arrays))
        by_name = dict(zip([each.name for each in response.outputs], response.raw_output_contents, strict=True))
        assert np.frombuffer(by_name["y"], np.float32).tolist() == expected


def test_the_workspace_api_takes_them(port: Port) -> None:
    for feed, expected in (({}, [2.5, 4.25]), ({"factor": 10}, [10.5, 20.25]), ({"offset": [0, 0]}, [2, 4])):
        found = port.server.call("/predict/", name="scaled", fetches="y", feed_dict={"x": [[1, 2]], **feed}, timeout=30)
        assert found["result"] == [[expected]]
    missing = port.server.call("/predict/", name="scaled", fetches="y", feed_dict={"factor": 10}, timeout=30)
    assert "feed_dict is missing 'x'" in missing["error"]["message"]


def test_metadata_shows_them_with_their_values(port: Port) -> None:
    metadata = port.server.http.get("/v1/models/scaled/metadata").json()["metadata"]["signature_def"]
    signature = metadata["signature_def"]["serving_default"]
    assert list(signature["inputs"]) == ["x", "factor", "label", "offset"]
    assert signature["defaults"] == {
        "factor": {"dtype": "DT_FLOAT", "tensor_shape": {}, "float_val": [2.0]},
        "offset": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "2"}]}, "float_val": [0.5, 0.25]},
        "label": {"dtype": "DT_STRING", "tensor_shape": {}, "string_val": ["w6k="]},
    }
    request = v1.GetModelMetadataRequest(model_spec=v1.ModelSpec(name="scaled"), metadata_field=["signature_def"])
    response = v1.SignatureDefMap()
    port.ask("GetModelMetadata", request, v1.GetModelMetadataResponse).metadata["signature_def"].Unpack(response)
    defaults = response.signature_def["serving_default"].defaults
    assert (defaults["factor"].float_val[0], defaults["label"].string_val[0]) == (2.0, "é".encode())
    config = port.server.http.get("/v2/models/scaled/config").json()
    assert [each["name"] for each in config["input"] if each.get("optional")] == ["factor", "label", "offset"]
    assert [each.optional for each in port.call("ModelConfig", v2.ModelConfigRequest(name="scaled")).config.input] == [
        False, True, True, True
    ]  # fmt: skip
