"""Bodies that are rubbish, for each API of the main port: refused early, in the words of that API."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.protocols import echo

MIB = 2**20
APIS = {
    "v1": "/v1/models/bodies:predict",
    "v1 examples": "/v1/models/bodies:classify",
    "v2": "/v2/models/bodies/infer",
    "v2 repository": "/v2/repository/models/nobody/load",
    "training": "/tasks/",
    "workspaces": "/predict/",
}


@pytest.fixture(scope="module")
def bodies(server: Server) -> Iterator[Server]:
    server.call("/create_workspace/", name="bodies")
    path = echo.write(server.roots / "bodies.echo")
    server.call("/deploy/", name="bodies", path=str(path), timeout=60)
    yield server
    server.call("/destroy_workspace/", name="bodies")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("impatient")
    running = Server(folder / "data", "--body-timeout-s", "0.3")
    (folder / "bodies.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 3]}}')
    running.call("/create_workspace/", name="bodies")
    running.call("/deploy/", name="bodies", path=str(folder / "bodies.echo"), timeout=60)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def alive(bodies: Server) -> Iterator[None]:
    yield
    assert bodies.http.get("/v2/health/live").status_code == 200
    assert bodies.http.post(APIS["v1"], content=b'{"instances": [[1, 2, 3]]}').json() == {"predictions": [[1, 2, 3]]}


def sentence(api: str, answer: httpx.Response) -> str:
    """What is told, in the shape of the API."""
    assert answer.headers["content-type"] == "application/json"
    content: Any = answer.json()
    if api == "training":
        assert "request_result" not in content
        return str(content["error"])
    if api == "workspaces":
        assert content["request_result"] is False
        assert content["error"]["message"] == content["result"]
        return str(content["result"])
    assert list(content) == ["error"]
    return str(content["error"])


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"17", b'"text"', b"{", b'{"inputs": [', b"\xff\xfe", b'{"a": "\xff"}']
)
@pytest.mark.parametrize("api", APIS)
def test_what_is_no_request_is_refused_in_the_words_of_the_api(bodies: Server, api: str, body: bytes) -> None:
    answer = bodies.http.post(APIS[api], content=body)
    assert answer.status_code == 400, answer.text
    assert sentence(api, answer)


@pytest.mark.parametrize("api", [name for name in APIS if name != "v2 repository"])
def test_an_empty_body_is_refused_where_something_is_needed(bodies: Server, api: str) -> None:
    answer = bodies.http.post(APIS[api])
    assert answer.status_code == 400, answer.text
    assert sentence(api, answer)


@pytest.mark.parametrize("opening", [b"[", b'{"inputs":'])
@pytest.mark.parametrize("api", APIS)
def test_very_deep_nesting_is_refused_at_once(bodies: Server, api: str, opening: bytes) -> None:
    started_at = time.monotonic()
    answer = bodies.http.post(APIS[api], content=opening * 250_000)
    assert answer.status_code == 400, answer.text
    assert sentence(api, answer)
    assert time.monotonic() - started_at < 2


@pytest.mark.parametrize("api", APIS)
def test_a_body_that_unpacks_to_too_much_is_413_in_the_words_of_the_api(bodies: Server, api: str) -> None:
    answer = bodies.http.post(APIS[api], content=BOMB, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413, answer.text
    assert "max_body_bytes" in sentence(api, answer)


BOMB = gzip.compress(bytes(65 * MIB), 1)


@pytest.mark.parametrize("api", APIS)
def test_a_long_body_that_is_announced_is_413_before_it_is_sent(bodies: Server, api: str) -> None:
    answer = until_closed(bodies, APIS[api], length=65 * MIB)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"max_body_bytes" in answer


@pytest.mark.parametrize("api", APIS)
def test_a_body_that_does_not_arrive_is_408_and_closed(impatient: Server, api: str) -> None:
    answer = until_closed(impatient, APIS[api], length=100)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b"Timed out reading the request body" in answer


def until_closed(server: Server, path: str, *, length: int) -> bytes:
    """All that is answered to a body of which only the first byte comes."""
    address = urlsplit(server.url)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {length}\r\n\r\n{{"
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        sock.sendall(head.encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 30])
@pytest.mark.parametrize("api", ["v1", "training", "workspaces"])
def test_the_header_of_version_2_means_nothing_elsewhere(bodies: Server, api: str, length: str) -> None:
    fields = {"name": "bodies", "fetches": "x", "feed_dict": {"x": [[1, 2, 3]]}, "timeout": 30}
    body = {"v1": {"instances": [[1, 2, 3]]}, "training": {}, "workspaces": fields}[api]
    answer = bodies.http.post(APIS[api], content=json.dumps(body), headers={"Inference-Header-Content-Length": length})
    assert answer.status_code == (400 if api == "training" else 200), answer.text
