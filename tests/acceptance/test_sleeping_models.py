"""Models that sleep: they have no process, every kind of request wakes them, and no request fails meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest

from faults.chaos import versions
from tests.acceptance.conftest import Server, command
from tests.acceptance.model_jobs import LATER, batch_output, ended
from tests.protocols.grpc_port import V1, V2, free_port, infer_request, predict_request, tensor
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tfserving_pb2 as v1
from tfserve_client import Client

Start = Callable[..., Server]

ROWS = {"instances": [[1.0, 2.0]]}
ANSWER = {"predictions": [[1001.0, 1002.0]]}
SOON_S = 0.2


class Sleepy(Server):
    """A server with two web processes and a gRPC port, and the model `m`, which soon sleeps."""

    def __init__(self, folder: Path) -> None:
        self.grpc = free_port()
        super().__init__(folder / "data", "--web-processes", "2", "--grpc-port", str(self.grpc))
        self.call("/create_workspace/", name="m")
        deploy(self, "m")


def deploy(server: Server, name: str, version: int = 1, **fields: Any) -> Any:
    path = str(versions.write(server.roots, version))
    job = server.call("/deploy/", name=name, path=path, timeout=60, **({"idle_after": SOON_S} | fields))
    assert job["result"] is True, job
    return job


def until_asleep(server: Server, name: str = "m") -> Any:
    """The deployment once it sleeps. Follows the changes of the server, without polling."""
    revision = 0
    while True:
        status = server.http.post("/get_status/", json={"name": name})  # a declared model may not be there yet
        found = status.json()["result"]["deployment"] if status.status_code == 200 else None
        if found is not None and found["state"] == "sleeping":
            assert (found["pid"], found["replicas"]) == (None, [])
            return found
        revision = server.http.get("/server/", params={"since": revision, "wait": 30}).json()["result"]["revision"]


def predict(server: Server, name: str = "m") -> Any:
    answer = server.http.post(f"/v1/models/{name}:predict", json=ROWS)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sleepy]:
    running = Sleepy(tmp_path_factory.mktemp("sleepy"))
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


def with_v1(server: Sleepy) -> Any:
    return predict(server)


def with_v2(server: Sleepy) -> Any:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
    (output,) = server.http.post("/v2/models/m/infer", json=body).json()["outputs"]
    return {"predictions": [output["data"]]}


def over_grpc(server: Sleepy, service: str, method: str, request: Any, response: type[Any]) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        call = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=60)


def with_grpc_v1(server: Sleepy) -> Any:
    request = predict_request("m", {"x": tensor((1, 2), "DT_FLOAT", float_val=[1.0, 2.0])})
    answer = over_grpc(server, V1, "Predict", request, v1.PredictResponse)
    found = answer.outputs["y"]
    values = list(found.float_val) or np.frombuffer(found.tensor_content, np.float32).tolist()
    return {"predictions": [values]}


def with_grpc_v2(server: Sleepy) -> Any:
    request = infer_request("m", {"x": np.array([[1.0, 2.0]], np.float32)})
    answer = over_grpc(server, V2, "ModelInfer", request, v2.ModelInferResponse)
    return {"predictions": [np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()]}


def with_a_job(server: Sleepy) -> Any:
    fields = {"fetches": "y", "feed_dict": {"x": ROWS["instances"]}, "timeout": 60}
    (values,) = server.call("/predict/", name="m", **fields)["result"]
    return {"predictions": values}


def with_a_deferred_prediction(server: Sleepy) -> Any:
    job = server.http.post("/v1/models/m:predict", json=ROWS, headers=LATER)
    assert job.status_code == 202, job.text
    ended(server, job.json()["id"])
    return server.http.get(f"/jobs/{job.json()['id']}/result").json()


def with_a_batch(server: Sleepy) -> Any:
    (server.roots / "rows.jsonl").write_text("[1, 2]\n")
    batch = server.call("/batch/", name="m", input=str(server.roots / "rows.jsonl"), timeout=60)
    assert batch["state"] == "succeeded", batch
    return {"predictions": [line["prediction"] for line in batch_output(server, batch["id"])]}


@pytest.mark.parametrize(
    "send",
    [with_v1, with_v2, with_grpc_v1, with_grpc_v2, with_a_job, with_a_deferred_prediction, with_a_batch],
    ids=lambda each: each.__name__,
)
def test_every_kind_of_request_wakes_a_model(server: Sleepy, send: Callable[[Sleepy], Any]) -> None:
    until_asleep(server)
    assert send(server) == ANSWER


def test_a_sleeping_model_is_ready_for_every_api(server: Sleepy) -> None:
    until_asleep(server)
    with Client(server.url) as client:
        (status,) = client.model_versions("m")
        assert (status["state"], status["status"]) == ("AVAILABLE", {"error_code": "OK", "error_message": ""})
        (listed,) = client.models()
        assert (listed["state"], listed["sleeping"]) == ("AVAILABLE", True)
        assert client.is_model_ready("m")
        assert client.model("m")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        (entry,) = client.repository(ready=True)
        assert (entry["state"], entry["reason"]) == ("READY", "sleeping: its processes start with the next request")
        assert client.model_config("m")["name"] == "m"
        assert client.model_statistics("m")["model_stats"][0]["name"] == "m"
        assert client.example("m")
    assert until_asleep(server)["options"]["idle_after_s"] == SOON_S
    assert "sleeping" in server.http.get("/pages/models/").text
    assert 'tfserve_model_sleeping{model="m",version="1"} 1.0' in server.http.get("/metrics").text


@pytest.mark.slow
def test_requests_at_the_moment_in_which_it_falls_asleep_do_not_fail(server: Sleepy) -> None:
    def client(_: int) -> list[int]:
        with httpx.Client(base_url=server.url, timeout=60, verify=False) as http:
            return [http.post("/v1/models/m:predict", json=ROWS).status_code for _ in range(3)]

    with ThreadPoolExecutor(50) as clients:
        for _ in range(3):
            until_asleep(server)
            found = [status for each in clients.map(client, range(50)) for status in each]
            assert found == [200] * 150


def test_a_process_that_is_killed_while_it_wakes_is_started_again(server: Sleepy) -> None:
    until_asleep(server)
    known = {each.pid for each in server.processes()}
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(predict, server) for _ in range(20)]
        new: list[psutil.Process] = []
        while not new:
            new = [each for each in server.processes() if each.pid not in known and "tfserve.worker" in command(each)]
        new[0].kill()
        assert [each.result() for each in waiting] == [ANSWER] * 20


def test_what_can_not_be_woken_is_503_with_the_cause_until_it_can(server: Sleepy) -> None:
    server.call("/create_workspace/", name="gone")
    deploy(server, "gone", 5)
    until_asleep(server, "gone")
    (server.roots / "version5.onnx").unlink()
    answer = server.http.post("/v1/models/gone:predict", json=ROWS)
    assert answer.status_code == 503
    assert "version5.onnx" in answer.json()["error"]
    assert str(server.roots) not in answer.json()["error"]
    ready = server.http.get("/v2/models/gone/ready")
    assert ready.status_code == 503
    versions.write(server.roots, 5)
    server.call("/restart_workspace/", name="gone")
    assert predict(server, "gone") == {"predictions": [[5001.0, 5002.0]]}
    server.call("/destroy_workspace/", name="gone")


def test_a_sleeping_model_is_updated_and_undeployed(server: Sleepy) -> None:
    server.call("/create_workspace/", name="other")
    deploy(server, "other")
    until_asleep(server, "other")
    updated = server.call("/update/", name="other", path=str(versions.write(server.roots, 2)), timeout=60)
    assert (updated["result"], updated["version"]) == (True, 2)
    assert predict(server, "other") == {"predictions": [[2001.0, 2002.0]]}
    until_asleep(server, "other")
    assert server.call("/undeploy/", name="other", timeout=60)["result"] is True
    assert server.http.post("/v1/models/other:predict", json=ROWS).status_code == 404
    load = {"parameters": {"path": str(versions.write(server.roots, 3)), "idle_after": SOON_S}}
    assert server.http.post("/v2/repository/models/other/load", json=load).status_code == 200
    assert until_asleep(server, "other")["options"]["idle_after_s"] == SOON_S
    refused = server.http.post("/v2/repository/models/other/load", json={"parameters": {"idle_after": "long"}})
    assert (refused.status_code, "idle_after" in refused.json()["error"]) == (400, True)
    server.call("/destroy_workspace/", name="other")


@pytest.mark.slow
def test_what_slept_when_the_server_was_killed_sleeps_when_it_returns(start: Start) -> None:
    server = start("--idle-after", str(SOON_S))
    for name in ("a", "b"):
        server.call("/create_workspace/", name=name)
        deploy(server, name, idle_after=None if name == "a" else 0)
    until_asleep(server, "a")
    server.stop(signal.SIGKILL)
    server = start()
    assert until_asleep(server, "a")["runtime"] == "onnxruntime"
    models = {each["name"]: each for each in server.http.get("/v1/models").json()["models"]}
    assert (models["a"]["state"], models["a"]["sleeping"]) == ("AVAILABLE", True)
    assert predict(server, "a") == predict(server, "b") == ANSWER


@pytest.mark.slow
def test_a_declared_model_sleeps_and_is_changed_without_loading_it_again(start: Start, tmp_path: Path) -> None:
    (file := tmp_path / "models.toml").write_text(declaration := (
        f"[models.m]\npath = {json.dumps(str(versions.write(tmp_path, 1)))}\nidle_after = {SOON_S}\n"
    ))  # fmt: skip
    server = start("--models", str(file))
    assert until_asleep(server)["version"] == 1
    file.write_text(declaration.replace(f"idle_after = {SOON_S}", "idle_after = 0"))
    revision = 0
    while (found := server.call("/get_status/", name="m")["deployment"])["options"]["idle_after_s"] != 0:
        revision = server.http.get("/server/", params={"since": revision, "wait": 30}).json()["result"]["revision"]
    assert found["state"] == "sleeping"
    assert predict(server) == ANSWER


@pytest.mark.slow
def test_models_make_room_when_memory_is_short(start: Start) -> None:
    server = start("--min-free-memory", "1000TiB")
    for name in ("never", "a", "b"):
        server.call("/create_workspace/", name=name)
        deploy(server, name, idle_after=0 if name == "never" else None)
    assert until_asleep(server, "a")["version"] == 1
    assert predict(server, "a") == ANSWER
    until_asleep(server, "b")
    assert server.call("/get_status/", name="never")["deployment"]["state"] == "active"


@pytest.mark.slow
def test_the_command_line_sets_the_time_and_shows_what_sleeps(server: Sleepy) -> None:
    def run(*words: str) -> str:
        command_line = [sys.executable, "-m", "tfserve.cli", *words, "--server", server.url]
        return subprocess.run(command_line, capture_output=True, text=True, check=True).stdout

    until_asleep(server)
    shown = run("models")
    assert re.search(r"m +1 +sleeping", shown), shown
    run("deploy", "m", str(versions.write(server.roots, 1)), "--no-upload", "--idle-after", "0.25")
    assert until_asleep(server)["options"]["idle_after_s"] == 0.25
