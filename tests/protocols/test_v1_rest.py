"""TensorFlow Serving's REST API, as its clients use it: a real server, real models, its words where it has any."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.acceptance.conftest import Server

ECHO = {
    "n": {"dtype": "int64", "shape": [-1]},
    "small": {"dtype": "uint8", "shape": [-1]},
    "x": {"dtype": "float32", "shape": [-1, 2]},
    "half": {"dtype": "float16", "shape": [-1]},
    "brain": {"dtype": "bfloat16", "shape": [-1]},
    "flag": {"dtype": "bool", "shape": [-1]},
    "word": {"dtype": "string", "shape": [-1]},
    "raw_bytes": {"dtype": "string", "shape": [-1]},
}
ROW = {
    "n": 2**53 + 1, "small": 7, "x": [1, 0.1], "half": 0.5, "brain": 2, "flag": True, "word": "é", "raw_bytes": "a",
}  # fmt: skip
EXAMPLE = {"x": 1.5, "n": 2, "word": "abc"}


class Api:
    """The calls of /v1/ on one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = server.http

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/v1/models{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, *, content: bytes | None = None, **headers: str) -> httpx.Response:
        data = json.dumps(body).encode() if content is None else content
        answer = self.http.post(f"/v1/models/{path}", content=data, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer

    def done(self, path: str, body: Any) -> Any:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, body: Any = None, *, content: bytes | None = None) -> tuple[int, str]:
        answer = self.post(path, body, content=content)
        assert list(answer.json()) == ["error"]
        return answer.status_code, answer.json()["error"]

    def deploy(self, name: str, path: Path) -> None:
        self.server.call("/create_workspace/", name=name)
        job = self.server.call("/deploy/", name=name, path=str(path), timeout=60)
        assert job["result"] is True, job


@pytest.fixture(scope="module")
def v1(server: Server) -> Iterator[Api]:
    """A server with the TF1 model `half` and the echo `types`."""
    folder = server.roots / "v1"
    folder.mkdir()
    program = Path(__file__).with_name("make_v1_model.py")
    done = subprocess.run([sys.executable, program, folder / "half" / "7"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "types.echo").write_text(json.dumps(ECHO))
    api = Api(server)
    api.deploy("half", folder / "half")
    api.deploy("types", folder / "types.echo")
    yield api
    for name in ("half", "types"):
        server.call("/destroy_workspace/", name=name)


# --- reads


def test_models_are_listed_with_versions_and_states(v1: Api) -> None:
    listed = {each["name"]: each for each in v1.get("")["models"]}
    assert listed["half"]["version"] == "7"
    assert listed["half"]["state"] == "AVAILABLE"
    assert "classify" in listed["half"]["signatures"]


def test_the_status_has_the_version_as_text(v1: Api) -> None:
    expected = {
        "model_version_status": [
            {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert v1.get("/half") == v1.get("/half/versions/7") == v1.get("/h%61lf") == expected
    assert v1.http.get("/V1/MODELS/half").json() == expected, "case does not matter, but in names"


def test_the_metadata_describes_every_signature(v1: Api) -> None:
    told = v1.get("/half/metadata")
    assert told["model_spec"] == {"name": "half", "signature_name": "", "version": "7"}
    signatures = told["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signatures["serving_default"]["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }
    methods = {name: each["method_name"].rpartition("/")[2] for name, each in signatures.items()}
    assert (methods["serving_default"], methods["classify"], methods["regress"]) == ("predict", "classify", "regress")
    assert v1.get("/half/versions/7/metadata") == told


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("GET", "/v1/models/half:predict", 400, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "/v1/models/half", 400, "Malformed request: POST /v1/models/half"),
        ("POST", "/v1/models/half:explain", 400, "Malformed request: POST /v1/models/half:explain"),
        ("DELETE", "/v1/models/half", 400, "Malformed request: DELETE /v1/models/half"),
        ("GET", "/v1//models", 400, "Malformed request: GET /v1//models"),
        ("GET", "/v1/models/half/versions/x", 400, "Malformed request: GET /v1/models/half/versions/x"),
        ("GET", "/v1/models/metadata/metadata", 404, "Servable not found for request: Latest(metadata)"),
        ("GET", "/v1/models/versions/5", 400, "Missing model name in request."),
        ("GET", "/v1/models/hal", 404, "Servable not found for request: Latest(hal) (did you mean 'half'?)"),
        ("POST", "/v1/models/nothing:predict", 404, "Servable not found for request: Latest(nothing)"),
        ("POST", "/v1/models/half/versions/50:predict", 404, "Servable not found for request: Specific(half, 50)"),
        (
            "GET",
            "/v1/models/half/versions/50",
            404,
            "Servable not found for request: Specific(half, 50) (available: 7)",
        ),
        ("GET", f"/v1/models/half/versions/{2**63}", 400, f"Failed to convert version: {2**63}"),
        ("GET", f"/v1/models/half/versions/{'9' * 5000}", 400, "Failed to convert version: 999"),
        ("POST", "/v1/models/half/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        ("GET", "/v1/models/half/labels/stable", 400, "Unrecognized servable version label: stable"),
        ("GET", "/v1/models/%00", 404, "Servable not found for request: Latest(\0)"),
        ("GET", "/v1/models/%2e%2e%2fetc", 404, "Servable not found for request: Latest(../etc)"),
        ("OPTIONS", "/v1/models/half", 400, "OPTIONS requires an Origin header."),
    ],
)
def test_wrong_paths_are_answered_in_tensorflow_servings_words(
    v1: Api, method: str, path: str, status: int, text: str
) -> None:
    answer = v1.http.request(method, path, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(text)


def test_options_with_an_origin_reports_the_methods(v1: Api) -> None:
    answer = v1.http.options("/v1/models/half:predict", headers={"Origin": "http://elsewhere.example"})
    assert (answer.status_code, answer.headers["allow"]) == (200, "GET, HEAD, POST, OPTIONS")


def test_what_the_door_refuses_has_the_shape_of_the_protocol(v1: Api) -> None:
    answer = v1.http.post("/v1/models/half:predict", headers={"Origin": "http://elsewhere.example"}, content=b"{}")
    assert answer.status_code == 403
    assert isinstance(answer.json()["error"], str)


def test_head_is_answered_without_a_body(v1: Api) -> None:
    answer = v1.http.head("/v1/models/half")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 50


# --- predict


def test_rows_and_columns_of_one_input(v1: Api) -> None:
    assert v1.done("half:predict", {"instances": [[1, 2], [3.5, 4]]}) == {"predictions": [[2.5, 3.0], [3.75, 4.0]]}
    assert v1.done("half:predict", {"instances": [{"x": [1, 2]}]}) == {"predictions": [[2.5, 3.0]]}
    assert v1.done("half/versions/7:predict", {"inputs": [[1, 2]]}) == {"outputs": [[2.5, 3.0]]}
    assert v1.done("half:predict", {"inputs": {"x": [[1, 2]], "extra": 1}}) == {"outputs": [[2.5, 3.0]]}
    assert v1.done("half:predict", {"inputs": []}) == {"outputs": []}
    assert v1.done("half:PREDICT", {"signature_name": "serving_default", "inputs": [[1, 2]]})
    assert v1.done("half:predict", {"signature_name": "mean", "inputs": [[1, 2]]}) == {"outputs": 1.5}


def test_rows_and_columns_of_many_types_return_exactly(v1: Api) -> None:
    other = {**ROW, "n": -(2**63), "word": {"b64": "/w=="}, "flag": False, "x": [3, 1e30]}
    rows = v1.done("types:predict", {"instances": [ROW, other]})["predictions"]
    assert rows[0] == {**ROW, "raw_bytes": {"b64": "YQ=="}}
    assert rows[1] == {**other, "raw_bytes": {"b64": "YQ=="}}
    columns = v1.done("types:predict", {"inputs": {name: [value] for name, value in ROW.items()}})["outputs"]
    assert columns == {name: [value] for name, value in rows[0].items()}
    text = v1.post("types:predict", {"instances": [ROW]}).text
    assert '"x":[1.0,0.1]' in text, "floats are as short as they are exact, and whole ones are floats still"
    assert '"brain":2.0' in text


def test_nan_and_infinity_are_bare_words_both_ways(v1: Api) -> None:
    content = b'{"instances": [[NaN, Infinity], [-Infinity, 1]]}'
    assert v1.post("half:predict", content=content).text == '{"predictions":[[NaN,Infinity],[-Infinity,2.5]]}'
    content = json.dumps({"instances": [{**ROW, "x": [float("nan"), 1], "half": float("-inf")}]}).encode()
    text = v1.post("types:predict", content=content).text
    assert '"x":[NaN,1.0]' in text
    assert '"half":-Infinity' in text


def test_what_stands_behind_the_document_is_ignored(v1: Api) -> None:
    assert v1.post("half:predict", content=b'{"instances": [[1, 2]]} and so on').status_code == 200


def test_long_rows_of_numbers_return_right(v1: Api) -> None:
    x = np.random.default_rng(0).random((5000, 2)).astype(np.float32)
    body = {"instances": x.tolist()}
    expected = (x * 0.5 + 2).tolist()
    answers = [v1.post("half:predict", content=json.dumps(body, indent=indent).encode()).json() for indent in (None, 1)]
    assert np.array_equal(
        np.array([each["predictions"] for each in answers], np.float32), np.array([expected] * 2, "f")
    )


def test_packed_bodies_are_unpacked(v1: Api) -> None:
    content = gzip.compress(b'{"instances": [[1, 2]]}')
    assert v1.post("half:predict", content=content, **{"Content-Encoding": "gzip"}).status_code == 200


def raw(server: Server, data: bytes) -> bytes:
    """All that the server sends until it closes the connection."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(data)
        pieces = iter(lambda: connection.recv(65536), b"")
        return b"".join(pieces)


def cut(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Expected either 'instances'"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "got both"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": 3}, "'instances' must be a list"),
        ({"instances": [[1, 2], [1]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"instances": [[1, 2], 3]}, "ragged"),
        ({"instances": [[1, 2, 3]]}, "of shape [-1, 2], got shape [1, 3]"),
        ({"instances": [1, 2]}, "of shape [-1, 2], got shape [2]"),
        ({"instances": [[1, "2"]]}, "got text"),
        ({"instances": [[1, True]]}, "got true or false"),
        ({"instances": [[1, None]]}, "got null"),
        ({"instances": [[1, 1e39]]}, "out of range for float32"),
        ({"instances": [{"x": [1, 2]}, [1, 2]]}, "mixes objects and other values"),
        ({"instances": [[1, 2], {"x": [1, 2]}]}, "ragged"),
        ({"instances": [{"y": [1, 2]}]}, "0 of 'instances' list: Unknown input 'y'. Available: 'x'."),
        ({"instances": [{"x": [1, 2], "z": 1}]}, "Unknown input 'z'"),
        ({"inputs": {"y": [[1, 2]]}}, "Missing input 'x'"),
        ({"inputs": None}, "of shape [-1, 2]"),
        ({"signature_name": "servin_default", "instances": [[1, 2]]}, "did you mean 'serving_default'"),
        ({"signature_name": 3, "instances": [[1, 2]]}, "'signature_name' must be text"),
        ({"signature_name": "mean", "instances": [[1, 2]]}, "has inconsistent batch size"),
        ({"signature_name": "pair", "instances": [[1, 2]]}, "has inconsistent batch size"),
        ({"signature_name": "complex", "instances": [[1, 2]]}, "Failed to write JSON value for tensor type complex64"),
        ([], "expected a JSON object"),
        (None, "expected a JSON object"),
    ],
)
def test_wrong_inputs_are_refused_with_what_was_expected(v1: Api, body: Any, text: str) -> None:
    status, error = v1.refused("half:predict", body)
    assert (status, text in error) == (400, True), error


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n": 1.0}, "expected whole numbers, got a number with a fraction"),
        ({"n": "3"}, "got text"),
        ({"n": True}, "got true or false"),
        ({"n": 2**63}, "out of range for int64"),
        ({"n": 2**64}, "a number with a fraction"),
        ({"small": 256}, "out of range for uint8"),
        ({"small": -1}, "out of range for uint8"),
        ({"flag": 1}, "expected true or false"),
        ({"word": 5}, "got a whole number"),
        ({"word": {"b64": "?"}}, "not valid base64"),
        ({"word": {"b64": "", "more": 1}}, "got an object"),
        ({"half": 70000}, "out of range for float16"),
        ({"n": [1]}, "got shape [1, 1]"),
    ],
)
def test_values_that_do_not_fit_their_type_are_refused(v1: Api, change: dict[str, Any], text: str) -> None:
    status, error = v1.refused("types:predict", {"instances": [{**ROW, **change}]})
    assert (status, text in error) == (400, True), error


def test_several_inputs_must_be_named_and_complete(v1: Api) -> None:
    assert "must name the inputs" in v1.refused("types:predict", {"instances": [1]})[1]
    assert "must name the inputs" in v1.refused("types:predict", {"inputs": [1]})[1]
    status, error = v1.refused("types:predict", {"instances": [cut(ROW, "flag")]})
    assert (status, "Missing input 'flag'" in error) == (400, True)
    assert error.startswith("Failed to process element: 0 of 'instances' list")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b'{"instances": [[1, 2]', b"\xff", b'{"instances": "\xff"}', b"[" * 250_000,
        b'{"instances": ' + b"[" * 250_000, b'{"instances": ' + b"[" * 250_000 + b"]" * 250_000 + b"}",
        b'{"instances": [[' + b"1," * 9000 + b"\xff]]}", b'{"instances": [[1e999, 1]]}', b'{"a":' * 250_000,
    ],
)  # fmt: skip
def test_rubbish_is_refused_at_once_and_nobody_is_disturbed(v1: Api, content: bytes) -> None:
    started = time.perf_counter()
    assert v1.refused("half:predict", content=content)[0] == 400
    assert time.perf_counter() - started < 1
    assert v1.done("half:predict", {"instances": [[1, 2]]}) == {"predictions": [[2.5, 3.0]]}


def test_an_empty_body_is_reported_in_tensorflow_servings_words(v1: Api) -> None:
    assert v1.refused("half:predict", content=b"") == (400, "JSON Parse error: The document is empty")


def test_a_broken_head_does_not_reach_the_model(v1: Api) -> None:
    answer = raw(v1.server, b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    assert b" 400 " in answer


# --- classify and regress


def test_examples_are_classified(v1: Api) -> None:
    body = {"signature_name": "classify", "examples": [EXAMPLE, {"x": [-1.0], "n": -3}]}
    assert v1.done("half:classify", body) == {"results": [[["up", 6.5], ["down", -6.5]], [["up", -4.0], ["down", 4.0]]]}
    body["signature_name"] = "classify_bare"
    assert v1.done("half:classify", body)["results"][0] == [["", 6.5], ["", -6.5]]


def test_examples_are_regressed_with_what_they_have_in_common(v1: Api) -> None:
    body = {"signature_name": "regress", "context": {"word": "zz", "n": True}, "examples": [EXAMPLE, {"x": 1.0}]}
    assert v1.done("half:regress", body) == {"results": [6.5, 4.0]}
    body["examples"] = [{"x": float("nan"), "word": {"b64": "AAAA"}}]
    assert v1.post("half:regress", body).text == '{"results":[NaN]}'


@pytest.mark.parametrize(
    ("verb", "body", "text"),
    [
        ("classify", {"examples": [EXAMPLE]}, "Expected classify signature method_name to be tensorflow/serving/cla"),
        ("regress", {"signature_name": "classify", "examples": [EXAMPLE]}, "Was: tensorflow/serving/classify"),
        ("regress", {"signature_name": "regress"}, "'examples' must be a list"),
        ("regress", {"signature_name": "regress", "examples": []}, "has no examples"),
        ("regress", {"signature_name": "regress", "examples": [1]}, "the element at index 0 is not an object"),
        ("regress", {"signature_name": "regress", "examples": [EXAMPLE], "context": 1}, "'context' must be an object"),
        (
            "regress",
            {"signature_name": "regress", "examples": [{"x": [1, 2.5]}]},
            "Feature 'x' must be a value or a list",
        ),
        ("regress", {"signature_name": "regress", "examples": [{"x": None}]}, "Feature 'x' must be a value or a list"),
        ("regress", {"signature_name": "regress", "examples": [{"x": 1e39}]}, "Feature 'x' has an invalid value"),
        ("regress", {"signature_name": "regress", "examples": [{"n": 2**63}]}, "Feature 'n' has an invalid value"),
        ("regress", {"signature_name": "regress", "examples": [{"word": {"b64": "?"}}]}, "Feature 'word' has"),
        ("regress", {"signature_name": "regress", "examples": [{"n": 1}]}, "x"),
    ],
)
def test_wrong_examples_are_refused(v1: Api, verb: str, body: Any, text: str) -> None:
    status, error = v1.refused(f"half:{verb}", body)
    assert (status, text in error) == (400, True), error


# --- wishes, versions, ports


def test_a_prediction_that_takes_longer_than_its_client_waits_is_given_up(v1: Api) -> None:
    body = {"signature_name": "count", "instances": [400_000]}
    started = time.perf_counter()
    answer = v1.post("half:predict", body, **{"Request-Timeout": "0.1", "Priority": "u=7, i"})
    assert (answer.status_code, "within 0.1 s" in answer.json()["error"]) == (504, True)
    assert time.perf_counter() - started < 2
    assert v1.post("half:predict", {"instances": [[1, 2]]}, **{"Request-Timeout": "soon"}).status_code == 400
    assert v1.done("half:predict", {"instances": [[1, 2]]}), "the one behind it is answered"


def test_the_prediction_of_a_client_that_left_is_not_computed(v1: Api) -> None:
    url = httpx.URL(v1.server.url)

    def send(count: int) -> socket.socket:
        body = b'{"signature_name": "count", "instances": [%d]}' % count
        connection = socket.create_connection((url.host, url.port or 80))
        head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        return connection

    with send(500_000) as first:
        busy = {"signature_name": "mean", "inputs": [[1, 2]]}
        while v1.post("half:predict", busy, **{"Request-Timeout": "0.05"}).status_code == 200:
            pass  # the first has not begun yet
        for connection in [send(10**9) for _ in range(3)]:
            connection.close()
        assert b" 200 OK" in first.recv(1000)
    assert v1.done("half:predict", busy) == {"outputs": 1.5}, "nobody counts to a billion before it"


def test_an_update_changes_the_version_that_serves(v1: Api, workspace: str) -> None:
    folder = v1.server.roots / "v1"
    v1.server.call("/deploy/", name=workspace, path=str(folder / "types.echo"), timeout=60)
    v1.server.call("/update/", name=workspace, path=str(folder / "types.echo"), timeout=60)
    assert v1.done(f"{workspace}:predict", {"instances": [ROW]})
    assert v1.done(f"{workspace}/versions/2:predict", {"instances": [ROW]})
    deadline = time.monotonic() + 30
    while len(states := v1.get(f"/{workspace}")["model_version_status"]) > 1 and time.monotonic() < deadline:
        assert [each["state"] for each in states] == ["AVAILABLE", "UNLOADING"]
    asked = f"Specific({workspace}, 1) (available: 2)"
    assert v1.refused(f"{workspace}/versions/1:predict", {}) == (404, f"Servable not found for request: {asked}")
    v1.server.call("/undeploy/", name=workspace, timeout=60)
    assert v1.refused(f"{workspace}:predict", {})[0] == 404


def test_every_client_gets_the_answer_to_its_own_request(v1: Api) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=v1.server.url) as http:
            for n in range(40):
                x = [float(number), float(n)]
                got = http.post("/v1/models/half:predict", json={"instances": [x]}).json()
                if got != {"predictions": [[number / 2 + 2, n / 2 + 2]]}:
                    wrong.append((x, got))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_requests_in_one_packet_are_answered_in_order(v1: Api) -> None:
    body = b'{"instances": [[%d, 2]]}'
    requests = b"".join(
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s"
        % (len(body % n), b"Connection: close\r\n" if n == 9 else b"", body % n)
        for n in range(10)
    )
    answers = raw(v1.server, requests)
    assert [answers.index(b"[[%.1f,3.0]]" % (n / 2 + 2)) for n in range(10)] == sorted(
        answers.index(b"[[%.1f,3.0]]" % (n / 2 + 2)) for n in range(10)
    )


def test_the_request_to_paste_works_in_each_language(v1: Api) -> None:
    for name in ("half", "types"):
        told = v1.get(f"/{name}/example")
        assert v1.http.post(told["url"], json=told["json"]).status_code == 200
        for command in (["sh", "-c", told["curl"]], [sys.executable, "-c", told["python"]]):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert "predictions" in done.stdout
        assert json.dumps(told["json"]) in told["javascript"]


def test_a_second_port_serves_older_clients(start: Callable[..., Server], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start("--v1-port", str(port))
    assert httpx.get(f"http://127.0.0.1:{port}/v1/models").json() == {"models": []}
