"""The Python client reaches every endpoint of the server, and sends every field of the workspace API."""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest

from tests.acceptance.conftest import Server
from tfserve_client import AsyncClient, Client, TFserveError

METHODS = {
    "/push_job/": ["push_file", "push_script"],
    "/jobs/{id}": ["job"],
    "/jobs/{id}/output": ["read_output"],
    "/jobs/{id}/result": ["job_response"],
    "/jobs/{id}/cancel": ["cancel_job_by_id"],
    "/jobs/{id}/repeat": ["repeat_job"],
    "/batch/": ["start_batch"],
}
"""The client's methods for endpoints of the workspace API whose path is not the name of the method."""
WORKSPACE_API = re.compile(r"/(\w+/|jobs/.*)")
"""The paths of the workspace API, whose methods have the fields of the endpoints."""
OTHERS = re.compile(r"/(tasks|training|audit|password_link|tokens|upload)/")
IGNORED = {"time_interval"}
"""Fields that the server ignores."""
NOT_FOR_PROGRAMS = {"GET /", "GET /monitoring/prometheus/metrics"}
"""A page for browsers, and a second address of /metrics."""
VALUES: dict[str, Any] = {
    "name": "w", "path": "m", "script": "x = 1", "type": 1, "clear": True, "timeout": 2.5, "time_limit": 3.5,
    "idempotency_key": "k", "device": "/cpu:0", "replicas": 2, "runtime": "litert", "precision": "bf16",
    "max_batch_size": 8, "max_delay": 0.5, "computations": 2, "image": {"size": [8, 8]}, "warm_up": {"x": [1]},
    "stateless": True, "inputs": {"x": [1]}, "outputs": ["b"], "fetches": ["y"], "feed_dict": {"x": [1]},
    "signature": "s", "job": 3, "variable": ["v"], "value": {"any": 1},
    "state": "queued", "kind": "script", "limit": 5, "offset": 6, "id": 7,
    "since": 8, "wait": 9, "limits": {"memory": "1GiB"}, "device_memory": "1GiB", "workspace": "w", "source": b"1",
    "recursive": True, "piece": b"1", "size": 4, "sha256": "0" * 64, "unpack": False, "progress": None,
    "resume": None, "model": "m", "version": 1, "parameters": {}, "request": {}, "instances": [1],
    "signature_name": "s", "examples": [{"x": 1}], "context": {}, "images": [b"\x89PNG"], "top": 2, "min_score": 0.5,
    "project_dir": "/p", "train_type": "classification", "user_id": "u", "project_id": "p", "deploy_to": "w",
    "warm_start": "t", "label": "cat", "scopes": ["predict"], "workspaces": ["w"], "expires": "9d", "grace": "1h",
    "ready": True, "callback": "https://example.com", "input": "upload:7", "format": "csv", "output": "csv",
    "batch_size": 2, "max_errors": 3, "columns": ["x"], "target": None, "side": 32, "idle_after": 60.0,
    "placement": "pack", "resources": {"gpu": 1}, "autoscale": {"max": 3},
}  # fmt: skip
RESULTS: dict[str, Any] = {"boolean": True, "string": "w", "integer": 4, "array": ["w"]}
ANY = {
    "job": 3, "id": 7, "finish": True, "state": "succeeded", "jobs": [], "total": 0, "workspace": "w", "result": 1,
    "models": [], "tasks": [], "files": [], "model_version_status": [], "inputs": [], "outputs": [], "results": [],
    "predictions": [], "path": "upload:7", "offset": 1, "size": 1,
}  # fmt: skip


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
        return RESULTS.get(result.get("type", ""), ANY)


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.requests.append((self.command, self.path, body))
        if "event-stream" in self.headers.get("accept", ""):
            content = b'event: end\ndata: {"state": "succeeded"}\n\n'
        else:
            content = json.dumps({"request_result": True, "result": self.server.result(self.path)}).encode()
        self.send_response(200)
        for name, value in {"Content-Length": len(content), "X-Next-Offset": 0, "X-Job-State": "running"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

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


def call(recorder: Recorder, method: str, values: dict[str, Any]) -> None:
    """Calls a method of the client with all of its parameters."""
    parameters = [*inspect.signature(getattr(Client, method)).parameters][1:]
    with Client(f"http://127.0.0.1:{recorder.server_port}") as client:
        outcome = getattr(client, method)(**{name: values[name] for name in parameters})
        if inspect.isgenerator(outcome):
            list(outcome)


def public_methods(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} - {"close"}


def test_every_endpoint_is_reached_by_a_method(recorder: Recorder, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1")
    known = {"target": tmp_path / "target", "path": str(file), "id": "7", "outputs": None, "image": VALUES["images"][0]}
    recorder.requests.clear()
    # methods for two endpoints
    choices: tuple[dict[str, Any], ...] = ({"version": None}, {}, {"version": "3"}, {"model": None})
    for method, choice in product(public_methods(Client), choices):
        if choice.keys() <= inspect.signature(getattr(Client, method)).parameters.keys():
            _call_if_possible(recorder, method, {**VALUES, **known, **choice})
    reached = {(verb, unquote(path.partition("?")[0])) for verb, path, _ in recorder.requests}
    endpoints = {
        f"{verb.upper()} {path}" for path, operations in recorder.document["paths"].items() for verb in operations
    }
    missing = {each for each in endpoints - NOT_FOR_PROGRAMS if not any(fits(each, *request) for request in reached)}
    assert missing == set()


def _call_if_possible(recorder: Recorder, method: str, values: dict[str, Any]) -> None:
    """Only the request counts: the recorder's response may lack what the method expects."""
    try:
        call(recorder, method, values)
    except (TFserveError, AttributeError, KeyError, TypeError):
        assert recorder.requests


def fits(endpoint: str, verb: str, path: str) -> bool:
    """Whether a request is for an endpoint such as `GET /v1/models/{model}`."""
    expected, _, template = endpoint.partition(" ")
    pattern = re.sub(r"\\{(path)\\}", ".*", re.escape(template))
    return verb == expected and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/:]+", pattern), path) is not None


def test_methods_send_every_field_of_the_workspace_api(recorder: Recorder) -> None:
    for path, operations in recorder.document["paths"].items():
        if not WORKSPACE_API.fullmatch(path) or OTHERS.match(path):
            continue
        for verb, operation in operations.items():
            for name in METHODS.get(path, [path.strip("/")]):
                call(recorder, name, VALUES)
                sent = recorder.requests[-1]
                url, _, query = sent[1].partition("?")
                assert (sent[0], url) == (verb.upper(), path.format(id=VALUES["id"]))
                assert dict(parse_qsl(query)).keys() == parameters_in("query", operation, recorder.document), name
                if path != "/json_test/" and verb == "post" and "requestBody" in operation:
                    assert json.loads(sent[2]).keys() == fields_of(recorder.document, operation) - IGNORED, name


def parameters_in(location: str, operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    shared = document["components"].get("parameters", {})
    listed = operation.get("parameters", [])
    given = [shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in listed]
    return {each["name"] for each in given if each["in"] == location}


def fields_of(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return set(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"])


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    assert public_methods(Client) == public_methods(AsyncClient)
    for name in public_methods(Client) - {"url", "timeout"}:
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))
        assert inspect.getdoc(getattr(Client, name)), f"{name} has no docstring"
