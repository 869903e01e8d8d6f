"""The same request by both paths: the bytes of the responses are equal, right or wrong.

`TE: trailers` means nothing to this server, but sends a request through ASGI.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.acceptance.conftest import Server
from tests.protocols.test_v1_rest import ECHO, ROW
from tests.raw_http import Connection

JSON = "Content-Type: application/json"
SLOW = "TE: trailers"

V2_ROW = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 0.1]}


@pytest.fixture(scope="module")
def server_with_models(server: Server, models: Path) -> Iterator[Server]:
    folder = server.roots / "fast"
    folder.mkdir()
    (folder / "types.echo").write_text(json.dumps(ECHO))
    (folder / "x.echo").write_text(json.dumps({"x": ECHO["x"]}))
    (folder / "fixed.echo").write_text(json.dumps({"x": {"dtype": "float32", "shape": [1, 2]}}))
    for name in ("types", "x", "fixed"):
        server.call("/create_workspace/", name=f"fast {name}")
        server.call("/deploy/", name=f"fast {name}", path=str(folder / f"{name}.echo"), timeout=60)
    server.call("/create_workspace/", name="fast images")
    image = {"height": 4, "width": 4, "channels": 1, "scale": 1 / 255, "labels": ["dark", "light"]}
    server.call("/deploy/", name="fast images", path=str(models / "pictures"), image=image, timeout=60)
    yield server
    for name in ("types", "x", "fixed", "images"):
        server.call("/destroy_workspace/", name=f"fast {name}")


def v1(name: str, verb: str = "predict") -> str:
    return f"/v1/models/fast%20{name}:{verb}"


def v2(name: str, version: str = "") -> str:
    return f"/v2/models/fast%20{name}{version}/infer"


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5), 200, np.uint8)).save(file, kind)
    return file.getvalue()


def binary(values: bytes, **parameters: bool) -> tuple[bytes, str]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(values)}}
    text = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return text + values, f"Inference-Header-Content-Length: {len(text)}"


NUMBERS = np.array([[1.5, -2]], np.float32).tobytes()
MANY = json.dumps({"instances": [[1.0, 2.0]] * 3000}).encode()
RIGHT: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "rows": (v1("x"), b'{"instances": [[1, 0.1], [2, 3]]}', (JSON,)),
    "rows without a type": (v1("x"), b'{"instances": [[1, 0.1]]}', ()),
    "columns": (v1("x"), b'{"inputs": {"x": [[1, 0.1]]}}', (JSON,)),
    "many rows": (v1("x"), MANY, (JSON,)),
    "all types": (v1("types"), json.dumps({"instances": [ROW]}).encode(), (JSON,)),
    "not a number": (v1("x"), b'{"instances": [[NaN, 0.1]]}', (JSON,)),
    "escaped path": (v1("x").replace("x", "%78"), b'{"instances": [[1, 0.1]]}', (JSON,)),
    "version": ("/v1/models/fast%20x/versions/1:predict", b'{"instances": [[1, 0.1]]}', (JSON,)),
    "urgent": (v1("x"), b'{"instances": [[1, 0.1]]}', (JSON, "Priority: u=0", "Request-Timeout: 20")),
    "as requests sends it": (
        v1("x"), b'{"instances": [[1, 0.1]]}',
        (JSON, "Connection: keep-alive", "Accept: */*", "Accept-Encoding: gzip, deflate", "User-Agent: any"),
    ),
    "image in JSON": (
        v1("images"), json.dumps({"instances": [{"b64": base64.b64encode(picture("PNG")).decode()}]}).encode(), (JSON,)
    ),
    "image as body": (v1("images"), picture("JPEG"), ("Content-Type: image/jpeg",)),
    "tensors": (v2("x"), json.dumps({"inputs": [V2_ROW], "id": "7"}).encode(), (JSON,)),
    "tensors of a version": (v2("x", "/versions/1"), json.dumps({"inputs": [V2_ROW]}).encode(), ()),
    "binary tensors": (v2("x"), *(lambda body, header: (body, (header,)))(*binary(NUMBERS))),
    "binary responses": (v2("x"), *(lambda body, header: (body, (header,)))(*binary(NUMBERS, binary_data_output=True))),
    "raw tensor": (v2("x"), NUMBERS, ("Inference-Header-Content-Length: 0",)),
    "compressed response": (
        v2("x"), json.dumps({"inputs": [{**V2_ROW, "shape": [600, 2], "data": [1, 2] * 600}]}).encode(),
        ("Accept-Encoding: gzip",),
    ),
}  # fmt: skip
WRONG: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "not JSON": (v1("x"), b'{"instances": [[1, 0.1]', (JSON,)),
    "no body": (v1("x"), b"", (JSON,)),
    "ragged": (v1("x"), b'{"instances": [[1, 0.1], [2]]}', (JSON,)),
    "wrong shape": (v1("x"), b'{"instances": [[1, 2, 3]]}', (JSON,)),
    "out of range": (v1("x"), b'{"instances": [[1e39, 2]]}', (JSON,)),
    "both forms": (v1("x"), b'{"instances": [[1, 2]], "inputs": [[1, 2]]}', (JSON,)),
    "no such model": (v1("none"), b'{"instances": [[1, 2]]}', (JSON,)),
    "no such version": ("/v1/models/fast%20x/versions/9:predict", b"{}", (JSON,)),
    "not a version": ("/v1/models/fast%20x/versions/x:predict", b"{}", (JSON,)),
    "no such label": ("/v1/models/fast%20x/labels/x:predict", b"{}", (JSON,)),
    "bad timeout": (v1("x"), b'{"instances": [[1, 2]]}', (JSON, "Request-Timeout: soon")),
    "no time": (v1("x"), b'{"instances": [[1, 2]]}', (JSON, "Request-Timeout: 1e-9")),
    "no image": (v1("images"), b"not an image", ("Content-Type: image/jpeg",)),
    "broken image": (v1("images"), b'{"instances": [{"b64": "AAAA"}]}', (JSON,)),
    "images for another model": (v1("x"), picture("PNG"), ("Content-Type: image/png",)),
    "no inputs": (v2("x"), b"{}", (JSON,)),
    "unknown input": (v2("x"), json.dumps({"inputs": [{**V2_ROW, "name": "y"}]}).encode(), (JSON,)),
    "wrong type": (v2("x"), json.dumps({"inputs": [{**V2_ROW, "datatype": "FP64"}]}).encode(), (JSON,)),
    "wrong length": (v2("x"), NUMBERS, ("Inference-Header-Content-Length: 99",)),
    "unknown version": (v2("x", "/versions/9"), json.dumps({"inputs": [V2_ROW]}).encode(), (JSON,)),
    "odd version": (v2("x", "/versions/a"), json.dumps({"inputs": [V2_ROW]}).encode(), (JSON,)),
}


@pytest.fixture
def connection(server_with_models: Server) -> Iterator[Connection]:
    connection = Connection(server_with_models.url)
    connection.ask(v1("x"), b'{"instances": [[1, 2]]}', SLOW)  # from here on, the host is known
    yield connection
    connection.close()


@pytest.mark.parametrize("what", [*RIGHT, *WRONG])
def test_both_paths_respond_with_the_same_bytes(connection: Connection, what: str) -> None:
    path, body, headers = (RIGHT | WRONG)[what]
    fast = connection.ask(path, body, *headers)
    assert fast.startswith(b"HTTP/1.1 200 OK" if what in RIGHT else b"HTTP/1.1 ")
    assert fast.startswith(b"HTTP/1.1 200") == (what in RIGHT), fast
    assert fast == connection.ask(path, body, *headers, SLOW)


@pytest.mark.parametrize("what", [*RIGHT, *WRONG])
def test_a_request_whose_head_is_known_gets_the_same_bytes(connection: Connection, what: str) -> None:
    path, body, headers = (RIGHT | WRONG)[what]
    first = connection.ask(path, body, *headers)
    for _ in range(3):
        assert connection.ask(path, body, *headers) == first
        connection.ask(v1("x"), b'{"instances": [[1, 2]]}', SLOW)  # another one in between
        assert connection.ask(path, body, *headers) == first


def test_of_requests_with_the_same_head_each_gets_the_response_to_its_own_body(connection: Connection) -> None:
    for number in (*range(10, 60), *range(20, 30)):
        response = connection.ask(v1("x"), b'{"instances": [[%d, 1]]}' % number, JSON)
        assert b'{"predictions":[[%d.0,1.0]]}' % number in response, response


@pytest.mark.parametrize("url", [v1, v2])
def test_a_known_head_finds_what_is_deployed_now(
    server_with_models: Server, connection: Connection, url: Callable[[str], str]
) -> None:
    """Also when a model has gone, come back, or been replaced since the last request of the connection."""
    server, folder = server_with_models, server_with_models.roots / "fast"
    server.call("/create_workspace/", name="fast comes")
    body = json.dumps({"inputs": [V2_ROW]} if url is v2 else {"instances": [[1, 0.5]]}).encode()

    def status() -> bytes:
        return connection.ask(url("comes"), body, JSON)[9:12]

    for _ in range(2):
        assert status() == b"404"
        server.call("/deploy/", name="fast comes", path=str(folder / "x.echo"), timeout=60)
        assert [status() for _ in range(3)] == [b"200"] * 3
        server.call("/deploy/", name="fast comes", path=str(folder / "types.echo"), timeout=60)
        assert [status() for _ in range(2)] == [b"400"] * 2, "the model that is there now has more inputs"
        server.call("/undeploy/", name="fast comes", timeout=60)
    server.call("/destroy_workspace/", name="fast comes")
    assert status() == b"404"


def test_a_known_head_with_more_or_less_than_its_body_is_parsed_as_usual(connection: Connection) -> None:
    row = b'{"instances": [[%d, 1]]}'
    request = {number: connection.request(v1("x"), row % number, JSON) for number in range(10, 20)}
    head = request[10].removesuffix(row % 10)
    nothing = b"\r\n" * 5

    def answered(number: int) -> bool:
        return b'{"predictions":[[%d.0,1.0]]}' % number in connection.receive()

    connection.send(request[10])
    assert answered(10)
    connection.send(request[11] + request[12])
    assert answered(11)
    assert answered(12)
    connection.send(request[13] + b"\r\n\r\n" + request[14])
    assert answered(13)
    assert answered(14)
    connection.send(nothing + request[15])
    assert answered(15)
    for piece in (head[:30], head[30:], row[:5], row[5:] % 16):
        connection.send(piece)
    assert answered(16)
    connection.send(head + nothing + b" " * (len(row % 10) - len(nothing)) + nothing)
    assert b" 400 " in connection.receive()
    connection.send(request[17])
    assert answered(17)


@pytest.mark.parametrize("size", [1 << 21, 1 << 26])
def test_a_body_that_can_not_be_right_is_refused_and_the_connection_closed(
    server_with_models: Server, size: int
) -> None:
    """The limit of a model whose inputs have fixed sizes is lower than that of the fast path.

    A client that sends all of the body before it reads gets the response, too.
    """
    body = b'{"instances": [[1, 2]]}' + b" " * size
    responses = []
    for headers in ((), (SLOW,)):
        connection = Connection(server_with_models.url)
        connection.ask(v1("x"), b'{"instances": [[1, 2]]}')
        responses.append(connection.ask(v1("fixed"), body, *headers))
        connection.close()
    assert responses[0].startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in responses[0]
    assert responses[0] == responses[1]


def test_both_paths_are_counted_and_logged(server_with_models: Server) -> None:
    def count() -> float:
        text = server_with_models.http.get("/metrics").text
        found = re.findall(r'^tfserve_model_requests_total\{.*model="fast x".*\} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))

    connection = Connection(server_with_models.url)
    before = count()
    for headers in ((), (SLOW,), ("Request-Timeout: 1e-9",)):
        connection.ask(v1("x"), b'{"instances": [[1, 2]]}', *headers)
    connection.close()
    assert count() == before + 3
