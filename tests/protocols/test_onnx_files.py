"""What an ONNX file says of its inputs and outputs: which have a default, and which dimension counts examples."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.protocols.grpc_port import Port, predict_request, tensor
from tests.protocols.test_both_edges import Infer, Input, assert_same, infer_by_grpc, infer_by_rest
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tfserving_pb2 as v1


def write(file: Path) -> Path:
    """`y = (x - offset) * factor`, by default with 0.5 and 2."""
    float_ = TensorProto.FLOAT
    rows = [helper.make_tensor_value_info(name, float_, ["rows", 3]) for name in ("x", "y")]
    given = [helper.make_tensor_value_info("offset", float_, [1]), helper.make_tensor_value_info("factor", float_, [])]
    nodes = [helper.make_node("Sub", ["x", "offset"], ["moved"]), helper.make_node("Mul", ["moved", "factor"], ["y"])]
    defaults = [numpy_helper.from_array(np.float32([0.5]), "offset"), numpy_helper.from_array(np.float32(2), "factor")]
    graph = helper.make_graph(nodes, "g", [rows[0], *given], rows[1:], defaults)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def write_time_first(file: Path) -> Path:
    """Turns [batch, time] into [time, batch], as recurrent networks may do."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", "batch"])
    graph = helper.make_graph([helper.make_node("Transpose", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    running = Port(tmp_path_factory.mktemp("optional"))
    running.deploy("m", write(running.server.roots / "m.onnx"))
    running.deploy("time first", write_time_first(running.server.roots / "time_first.onnx"))
    yield running
    running.close()


X = Input("x", data=np.float32([[1, 2, 3]]).tobytes())
OFFSET = Input("offset", shape=(1,), data=struct.pack("<f", 1))
FACTOR = Input("factor", shape=(), data=struct.pack("<f", 10))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [((X,), [1, 3, 5]), ((OFFSET, X), [0, 2, 4]), ((X, FACTOR), [5, 15, 25]), ((X, FACTOR, OFFSET), [0, 10, 20])],
)
def test_v2_takes_them_in_any_order(port: Port, inputs: tuple[Input, ...], expected: list[float]) -> None:
    found = infer_by_rest(port, Infer(inputs=inputs))
    assert_same(found, infer_by_grpc(port, Infer(inputs=inputs)), 200)
    ((*_, data),) = found.content[-1]
    assert np.frombuffer(data, np.float32).tolist() == expected


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((OFFSET,), "Missing input 'x'. Required: 'x'."),
        ((X, Input("other")), "Unknown input 'other'. Available: 'x', 'offset', 'factor'."),
        ((X, OFFSET, OFFSET), "The input 'offset' was given more than once."),
        ((X, Input("factor")), "Input 'factor' takes float32 of shape [], got shape [1, 3]."),
    ],
)
def test_v2_refuses_others(port: Port, inputs: tuple[Input, ...], message: str) -> None:
    found = infer_by_rest(port, Infer(inputs=inputs))
    assert_same(found, infer_by_grpc(port, Infer(inputs=inputs)), 400)
    assert found.message == message


def predict(port: Port, body: dict[str, Any], model: str = "m") -> Any:
    return port.server.http.post(f"/v1/models/{model}:predict", json=body).json()


def test_v1_takes_them_in_columns(port: Port) -> None:
    assert predict(port, {"instances": [[1, 2, 3]]}) == {"predictions": [[1, 3, 5]]}
    assert predict(port, {"inputs": {"x": [[1, 2, 3]], "offset": [1]}}) == {"outputs": [[0, 2, 4]]}
    assert "Send columns instead" in predict(port, {"instances": [{"x": [1, 2, 3], "offset": 1}]})["error"]
    assert predict(port, {"inputs": {"offset": [1]}})["error"] == "Missing input 'x'. Required: 'x'."


def test_v1_takes_them_over_grpc(port: Port) -> None:
    inputs = {"x": tensor((1, 3), "DT_FLOAT", float_val=[1, 2, 3]), "offset": tensor((1,), "DT_FLOAT", float_val=[1])}
    found = port.ask("Predict", predict_request("m", inputs), v1.PredictResponse).outputs["y"]
    assert ([*found.float_val] or np.frombuffer(found.tensor_content, np.float32).tolist()) == [0, 2, 4]


def test_the_workspace_api_takes_them(port: Port) -> None:
    for feed, expected in (({}, [1, 3, 5]), ({"factor": 10}, [5, 15, 25])):
        found = port.server.call("/predict/", name="m", fetches="y", feed_dict={"x": [[1, 2, 3]], **feed}, timeout=30)
        assert found["result"] == [[expected]]
    missing = port.server.call("/predict/", name="m", fetches="y", feed_dict={"factor": 10}, timeout=30)
    assert "feed_dict is missing 'x'" in missing["error"]["message"]


def test_requests_that_set_them_are_not_batched_with_others(port: Port) -> None:
    """Each of many requests at a time gets its own response."""

    def ask(n: int) -> Any:
        inputs = {"x": [[n, n, n]], **({"factor": float(n)} if n % 2 else {})}
        return predict(port, {"inputs": inputs})["outputs"][0]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(200)))
    assert found == [[(n - 0.5) * (n if n % 2 else 2)] * 3 for n in range(200)]


def test_clients_see_which_inputs_they_need_not_set(port: Port) -> None:
    config = port.server.http.get("/v2/models/m/config").json()
    assert [(each["name"], each.get("optional", False)) for each in config["input"]] == [
        ("x", False), ("offset", True), ("factor", True)
    ]  # fmt: skip
    over_grpc = port.call("ModelConfig", v2.ModelConfigRequest(name="m"))
    assert [(each.name, each.optional) for each in over_grpc.config.input] == [
        ("x", False), ("offset", True), ("factor", True)
    ]  # fmt: skip
    metadata = port.server.http.get("/v2/models/m").json()
    assert [each["name"] for each in metadata["inputs"]] == ["x"]
    status = port.server.call("/get_status/", name="m")
    assert [each["name"] for each in status["deployment"]["signatures"]["serving_default"]["optional"]] == [
        "offset", "factor"
    ]  # fmt: skip


def test_rows_are_refused_where_the_examples_are_in_another_dimension(port: Port) -> None:
    """With as many steps as examples, the sizes would not show it."""
    refused = predict(port, {"instances": [[1, 2], [3, 4]]}, "time first")["error"]
    assert "The first dimension of 'y' does not count the rows of 'instances'" in refused
    assert predict(port, {"inputs": [[1, 2], [3, 4]]}, "time first") == {"outputs": [[1, 3], [2, 4]]}
    assert predict(port, {"instances": [[1]]}, "time first") == {"predictions": [[1]]}
    assert port.server.http.get("/v2/models/time first/config").json()["max_batch_size"] == 0
