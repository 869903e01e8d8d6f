"""The Python client covers the workspace API: its methods send every field of every endpoint."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.acceptance.conftest import Server
from tfserve.client import Client

METHODS = {
    "push_job": ["push_file", "push_script"],
    "list_jobs": ["jobs"],
    "get_job": ["job"],
    "read_job_output": ["read_output"],
    "get_server": ["server"],
    "echo_json": ["json_test"],
    "start_service": ["create"],
    "stop_service": ["destroy"],
    "list_workspaces": ["get_workspace"],
    "clear_variables": ["clear"],
    "deploy_model": ["deploy"],
    "scale_model": ["scale"],
    "update_model": ["update"],
    "undeploy_model": ["undeploy"],
    "predict_tensors": ["predict"],
    "count_jobs": ["get_job"],
    "check_job": ["get_finish"],
    "get_variables": ["get_variable"],
}
"""The client's methods for endpoints of another name."""
IGNORED = {"time_interval"}
"""Fields that the server ignores."""
OTHER_APIS = (
    "/tasks/",
    "/training/",
    "/audit/",
    "/password_link/",
    "/tokens/",
    "/upload/",
    "/workspaces/",
    "/v1/",
    "/v2",
    "/metrics",
    "/monitoring/",
    "/openapi.json",
)
VALUES: dict[str, Any] = {
    "name": "w", "path": "/m", "script": "x = 1", "type": 1, "clear": True, "timeout": 2.5, "time_limit": 3.5,
    "idempotency_key": "k", "device": "/cpu:0", "replicas": 2, "runtime": "litert", "precision": "bf16",
    "max_batch_size": 8, "max_delay": 0.5, "image": {"size": [8, 8]}, "warm_up": {"x": [1]}, "stateless": True,
    "inputs": ["a"], "outputs": ["b"], "fetches": ["y"], "feed_dict": {"x": [1]}, "signature": "s", "job": 3,
    "variable": ["v"], "value": {"any": 1}, "state": "queued", "kind": "script", "limit": 5, "offset": 6, "id": 7,
    "since": 8, "wait": 9, "limits": {"memory": "1GiB"}, "device_memory": "1GiB",
}  # fmt: skip
RESULTS: dict[str, Any] = {"boolean": True, "string": "w", "integer": 4, "array": ["w"]}
JOB = {"job": 3, "id": 7, "finish": True, "state": "succeeded", "jobs": [], "total": 0}


class Recorder(ThreadingHTTPServer):
    """Records requests, and returns a result that the client understands."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.document = document
        self.requests: list[tuple[str, str, bytes]] = []

    def result(self, path: str) -> Any:
        operation = self.document["paths"].get(path, {}).get("post", {"responses": {}})
        content = operation["responses"].get("200", {"content": {}})["content"].get("application/json", {})
        result = content.get("schema", {}).get("properties", {}).get("result", {})
        return RESULTS.get(result.get("type", ""), JOB)


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.requests.append((self.command, self.path, body))
        content = json.dumps({"request_result": True, "result": self.server.result(self.path)}).encode()
        self.send_response(200)
        for name, value in {"Content-Length": len(content), "X-Next-Offset": 0, "X-Job-State": "running"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def recorder(server: Server) -> Iterator[Recorder]:
    recorder = Recorder(server.http.get("/openapi.json").json())
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recorder
    recorder.shutdown()
    thread.join()
    recorder.server_close()


def sent_by(recorder: Recorder, method: str) -> tuple[str, str, bytes]:
    """The request of a client's method that is called with all of its parameters."""
    parameters = [*inspect.signature(getattr(Client, method)).parameters][1:]
    with Client(f"http://127.0.0.1:{recorder.server_port}") as client:
        getattr(client, method)(**{name: VALUES[name] for name in parameters})
    return recorder.requests[-1]


def test_methods_send_every_field_of_every_endpoint(recorder: Recorder) -> None:
    for path, operations in recorder.document["paths"].items():
        if path == "/" or path.startswith(OTHER_APIS):
            continue
        for method, operation in operations.items():
            for name in METHODS.get(operation["operationId"], [operation["operationId"]]):
                sent = sent_by(recorder, name)
                url, _, query = sent[1].partition("?")
                assert (sent[0], url) == (method.upper(), path.format(id=VALUES["id"]))
                assert dict(parse_qsl(query)).keys() == parameters_in("query", operation), name
                if path != "/json_test/" and method == "post":
                    assert json.loads(sent[2]).keys() == fields_of(recorder.document, operation) - IGNORED, name


def parameters_in(location: str, operation: dict[str, Any]) -> set[str]:
    return {each["name"] for each in operation["parameters"] if each["in"] == location}


def fields_of(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return set(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"])
