"""Resources, placement and autoscaling over HTTP, with the client and the command line, on a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.chaos import versions
from tests.acceptance.conftest import Server
from tfserve_client import Client, Conflict, Invalid

LIMITS = {"min": 1, "max": 3, "target_queue": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("autoscaling")
    server = Server(folder / "data", environment={"TFSERVE_AUTOSCALE_DOWN_S": "3"})
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def deployment(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("/get_status/", name=name)["deployment"]
    return found


def until_replicas(server: Server, name: str, count: int) -> list[int]:
    """The ids of the processes once there are this many."""
    return list(until(server, name, lambda found: len(found["replicas"]) == count)["replicas"])


def until_limits(server: Server, name: str, *, max_: int) -> None:
    """Returns when autoscaling has this limit."""
    until(server, name, lambda found: found["options"].get("autoscale", {}).get("max") == max_)


def until(server: Server, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The deployment once it is like this. Follows the changes of the server, without polling."""
    revision = 0
    while True:
        status = server.http.post("/get_status/", json={"name": name}).json()["result"]
        found = status["deployment"] if isinstance(status, dict) else None  # a declared model may not be there yet
        if found is not None and condition(found):
            return dict(found)
        revision = server.http.get("/server/", params={"since": revision, "wait": 30}).json()["result"]["revision"]


def command(server: Server, *arguments: str) -> str:
    """What a command prints that must succeed."""
    program = [sys.executable, "-m", "tfserve.cli", *arguments, "--server", server.url]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout


def predicted(server: Server, number: float) -> Any:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        response = http.post("/v1/models/m:predict", json={"instances": [[number, 0.0]]})
    return response.json()


@pytest.mark.slow  # several processes load TensorFlow one after another
def test_load_starts_replicas_and_they_end_after_it_without_a_failed_request(server: Server) -> None:
    server.call("/create_workspace/", name="m")
    path = str(versions.write(server.roots, 1))
    job = server.call("/deploy/", name="m", path=path, autoscale=LIMITS, timeout=60)
    assert job["result"] is True, job
    (first,) = deployment(server, "m")["replicas"]
    with ThreadPoolExecutor(16) as pool:
        os.kill(first, signal.SIGSTOP)
        waiting = [pool.submit(predicted, server, n) for n in range(12)]
        pids = until_replicas(server, "m", 3)
        assert predicted(server, 50.0) == {"predictions": [[1050.0, 1000.0]]}, "the new processes serve"
        os.kill(first, signal.SIGCONT)
        assert [each.result() for each in waiting] == [{"predictions": [[1000.0 + n, 1000.0]]} for n in range(12)]
        assert first in pids

        is_over = threading.Event()

        def predict_repeatedly() -> list[Any]:
            results = []
            while not is_over.is_set():
                results.append(predicted(server, 1.0))
            return results

        running = [pool.submit(predict_repeatedly) for _ in range(2)]
        assert len(until_replicas(server, "m", 1)) == 1
        is_over.set()
        results = [result for each in running for result in each.result()]
    assert results
    assert all(result == {"predictions": [[1001.0, 1000.0]]} for result in results)


def test_a_deployment_keeps_what_was_requested(server: Server, client: Client, tmp_path: Path) -> None:
    client.create_workspace("kept")
    (server.roots / "kept.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    path = str(server.roots / "kept.echo")
    job = client.deploy(
        "kept", path, resources={"cpu": 0.5, "memory": "64MiB"}, placement="pack", autoscale=LIMITS, timeout=30
    )
    assert job.state == "succeeded", job
    options = client.get_status("kept")["deployment"]["options"]
    assert options["resources"] == {"cpu": 0.5, "memory": "64MiB"}
    assert (options["placement"], options["autoscale"], options["replicas"]) == ("pack", LIMITS, 1)
    with pytest.raises(Conflict, match=r"'kept' has 1 to 3 replicas by its load"):
        client.scale("kept", 2)
    assert client.scale("kept", 2, autoscale=False)
    assert client.scale("kept", autoscale={"min": 1, "max": 2})
    job = client.update("kept", path, resources={}, placement="spread", autoscale=False, timeout=30)
    assert job.state == "succeeded", job
    options = client.get_status("kept")["deployment"]["options"]
    assert options.keys().isdisjoint({"resources", "placement", "autoscale"})
    assert options["replicas"] == 2


@pytest.mark.parametrize(
    ("path", "fields", "problem"),
    [
        ("/deploy/", {"path": "m.echo", "resources": {"gpu": 60}}, r"60 GPUs requested, and node 'head' has \d+ GPU"),
        ("/deploy/", {"path": "m.echo", "resources": {"node": "big"}}, "node 'big' was requested"),
        ("/deploy/", {"path": "m.echo", "resources": {"gpus": 1}}, r"\(did you mean 'gpu'\?\)"),
        ("/deploy/", {"path": "m.echo", "autoscale": {"min": 4, "max": 2}}, "autoscale.min must be at most"),
        ("/scale/", {}, "Give replicas"),
        ("/push_job/", {"job": "1", "type": 1, "resources": {"gpu": 1}}, "the workspace has 0 GPUs"),
    ],
)
def test_what_can_not_be_honoured_is_refused_before_a_job_exists(
    server: Server, path: str, fields: dict[str, Any], problem: str
) -> None:
    server.http.post("/create_workspace/", json={"name": "refused"})
    (server.roots / "m.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    if "path" in fields:
        fields = {**fields, "path": str(server.roots / fields["path"])}
    status, message = server.refused(path, name="refused", **fields)
    assert status == 400
    assert re.search(problem, message), message
    assert server.call("/get_status/", name="refused")["CUR_JOB_NUM"] == -1


def test_a_workspace_and_a_training_have_resources(server: Server, client: Client) -> None:
    client.create_workspace("sized", resources={"cpu": 1, "node": "head"})
    assert client.get_status("sized")["resources"] == {"cpu": 1.0, "node": "head"}
    assert client.push_script("sized", "x = 1", resources={"cpu": 1}, timeout=30).variable == {"x": 1}
    (server.roots / "project").mkdir(exist_ok=True)
    with pytest.raises(Invalid, match="60 GPUs requested"):
        client.train(str(server.roots / "project"), resources={"gpu": 60})
    form = {"userId": "u", "projectId": "p", "projectDir": str(server.roots / "project"), "trainType": "classification"}
    response = server.http.post("/", data={**form, "resources": '{"gpu": 60}'})
    assert (response.status_code, "60 GPUs requested" in response.text) == (400, True)
    assert server.http.post("/", data={**form, "resources": "gpu=1"}).json()["error"].startswith("resources: expected")


def test_the_command_line_has_the_same_fields(server: Server) -> None:
    printed = command(server, "workspaces", "create", "cli", "--resource", "cpu=1", "--json")
    assert json.loads(printed) == {"name": "cli"}
    (server.roots / "cli.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    path = str(server.roots / "cli.echo")
    command(server, "deploy", "cli", path, "--resource", "memory=64MiB", "--autoscale", "1:2:8", "--placement", "pack")
    options = deployment(server, "cli")["options"]
    assert options["autoscale"] == {"min": 1, "max": 2, "target_queue": 8.0}
    assert (options["resources"], options["placement"]) == ({"memory": "64MiB"}, "pack")
    assert "scaled by its load" in command(server, "scale", "cli", "--autoscale", "1:3")
    assert "model cli" in command(server, "nodes")
    (node,) = json.loads(command(server, "nodes", "--json"))
    assert (node["name"], node["state"]) == ("head", "ready")
    command(server, "update", "cli", path, "--autoscale", "off", "--replicas", "1")
    assert "autoscale" not in deployment(server, "cli")["options"]


def test_new_limits_in_the_models_file_do_not_load_the_model_again(tmp_path: Path) -> None:
    (tmp_path / "d.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    file = tmp_path / "models.toml"
    file.write_text('[models.d]\npath = "d.echo"\nautoscale = {min = 2, max = 3}\n')
    server = Server(tmp_path / "data", "--models", str(file))
    try:
        pids = until_replicas(server, "d", 2)
        for limits in ("{min = 1, max = 2}", "{min = 2, max = 5}"):
            file.write_text(f'[models.d]\npath = "d.echo"\nautoscale = {limits}\n')
            until_limits(server, "d", max_=int(limits[-2]))
            assert deployment(server, "d")["replicas"] == pids
        file.write_text('[models.d]\npath = "d.echo"\nreplicas = 1\n')
        assert until_replicas(server, "d", 1)[0] in pids
        assert "autoscale" not in deployment(server, "d")["options"]
    finally:
        server.close()
