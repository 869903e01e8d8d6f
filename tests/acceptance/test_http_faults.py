"""Rubbish over HTTP: a clear answer to whoever sent it, and nobody else disturbed."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.acceptance.conftest import Server, command

MIB = 2**20


@pytest.fixture(autouse=True)
def alive(server: Server, workspace: str) -> Iterator[None]:
    """After each fault the server lives and an unrelated workspace works."""
    yield
    assert server.http.get("/v2/health/live").status_code == 200
    assert server.run(workspace, "x = 1")["result"] is True


def talk(server: Server, data: bytes, timeout: float = 30) -> bytes:
    """Everything that the server answers to these bytes, until it closes."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as sock:
        sock.sendall(data)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def assert_refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    content = answer.json()
    assert content["request_result"] is False
    assert content["error"]["message"] == content["result"]
    for word in words:
        assert word in content["result"]


@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b'"text"', b"17", b"{", b'{"name": "a"', b'{"name": }', b'{"name": "a",}', b"\xff\xfe",
        b'{"name": "\xff"}', b'{"name": "a", "feed_dict": {"x": "\xc3\x28"}}', b'{"name": NaN}', b"{}", b"", b"   ",
        b'{"name": 5}', b'{"name": null}', b'{"name": ["a"]}', b'{"name": ""}', b'{"name": "a"} trailing',
    ],
)  # fmt: skip
def test_a_body_that_is_not_the_request_is_refused(server: Server, body: bytes) -> None:
    for path in ("/get_status/", "/push_job/", "/predict/"):
        assert_refused(server.http.post(path, content=body), 400)


def test_a_missing_or_wrongly_typed_field_is_named(server: Server) -> None:
    assert_refused(server.http.post("/push_job/", json={"name": "a"}), 400, "job", "timeout")
    assert_refused(server.http.post("/push_job/", json={"name": "a", "job": "x", "timeout": "1"}), 400, "timeout")
    assert_refused(server.http.post("/push_job/", json={"name": "a", "job": "x", "timeout": -1}), 400, "timeout")
    assert_refused(server.http.post("/push_job/", json={"name": "a", "job": "x", "type": 2}), 400, "type")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting_is_refused_at_once(server: Server, opening: bytes) -> None:
    started_at = time.monotonic()
    for path in ("/json_test/", "/predict/"):
        assert_refused(server.http.post(path, content=opening * 250_000), 400, "nested")
    feed = b'{"name": "a", "fetches": "y", "feed_dict": {"x": ' + b"[" * 250_000 + b"}}"
    assert_refused(server.http.post("/predict/", content=feed), 400, "nested")
    assert time.monotonic() - started_at < 3


def test_brackets_inside_of_strings_are_no_nesting(server: Server) -> None:
    text = '[{"\\' * 1000
    assert server.call("/json_test/", text=text) == {"text": text}


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(server: Server) -> None:
    answer = talk(
        server,
        b"POST /json_test/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000000\r\n\r\n{",
    )
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"max_body_bytes" in answer


def test_an_endless_chunked_body_is_refused_and_memory_is_bounded(server: Server) -> None:
    web = next(process for process in server.processes() if "tfserve.web.app" in command(process))
    before = web.memory_info().rss

    def chunks() -> Iterator[bytes]:
        yield b'"'
        for _ in range(100 * 1024):
            yield b"x" * 1024

    with contextlib.suppress(httpx.WriteError):  # the server has answered and closed; this client was still writing
        assert server.http.post("/json_test/", content=chunks()).status_code == 413
    assert web.memory_info().rss - before < 200 * MIB


@pytest.mark.parametrize("encoding", ["gzip", pytest.param("deflate", marks=pytest.mark.slow)])
def test_a_compressed_bomb_is_refused_and_memory_is_bounded(server: Server, encoding: str) -> None:
    web = next(process for process in server.processes() if "tfserve.web.app" in command(process))
    before = web.memory_info().rss
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(b"[" * MIB) for _ in range(1024)) + packer.flush()
    assert len(bomb) < 2 * MIB
    answer = server.http.post("/json_test/", content=bomb, headers={"Content-Encoding": encoding})
    assert_refused(answer, 413)
    assert web.memory_info().rss - before < 200 * MIB


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_compressed_body_is_understood(server: Server, pack: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    body = pack(json.dumps({"a": [1, 2]}).encode())
    answer = server.http.post("/json_test/", content=body, headers={"Content-Encoding": encoding})
    assert answer.json()["result"] == {"a": [1, 2]}
    assert_refused(server.http.post("/json_test/", content=body[:-6], headers={"Content-Encoding": encoding}), 400)
    assert_refused(server.http.post("/json_test/", content=body, headers={"Content-Encoding": "br"}), 400, "gzip")


def test_a_body_in_many_tiny_chunks_is_understood(server: Server) -> None:
    body = json.dumps({"a": "x" * 5000}).encode()
    answer = server.http.post("/json_test/", content=(body[i : i + 1] for i in range(len(body))))
    assert answer.json()["result"] == {"a": "x" * 5000}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("impatient") / "data"
    running = Server(data_dir, "--header-timeout-s", "0.5", "--body-timeout-s", "0.5")
    yield running
    running.close()


def test_slow_headers_are_closed_by_timeout(impatient: Server) -> None:
    started_at = time.monotonic()
    assert talk(impatient, b"POST /json_test/ HTTP/1.1\r\nHost: loc") == b""
    assert talk(impatient, b"") == b""
    assert time.monotonic() - started_at < 5


def test_a_second_request_with_slow_headers_is_closed_too(impatient: Server) -> None:
    answer = talk(impatient, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2/health/li")
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_head_without_an_end_is_closed(server: Server) -> None:
    answer = talk_until_closed(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * MIB)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"more than 65536 bytes" in answer


IN_CHUNKS = b"POST /json_test/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("start", [b"2;a=", b"2\r\n{}\r\n0\r\nX: ", b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 20_000])
def test_what_belongs_to_no_body_has_a_limit(server: Server, start: bytes) -> None:
    """Extensions of chunks and trailers could go on forever, and trailers were kept in memory."""
    answer = talk_until_closed(server, IN_CHUNKS + b"\r\n" + start + b"a" * MIB)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"more than 65536 bytes that are not part of it" in answer


def test_trailers_are_no_headers(server: Server) -> None:
    """What has been checked in the headers of a request can't be changed later."""
    body = b"2\r\n{}\r\n0\r\nHost: evil.example\r\nContent-Encoding: gzip\r\n\r\n"
    answer = talk_until_closed(server, IN_CHUNKS + b"\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 200")


def test_space_around_a_transfer_coding_means_nothing(server: Server) -> None:
    head = IN_CHUNKS.replace(b"chunked", b"Chunked  ")
    assert talk_until_closed(server, head + b"\r\n2\r\n{}\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_transfer_coding_that_is_not_removed_is_refused(server: Server) -> None:
    head = IN_CHUNKS.replace(b"chunked", b"gzip, chunked")
    answer = talk_until_closed(server, head + b"\r\n2\r\n{}\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Transfer-Encoding 'gzip, chunked' is not supported" in answer


def test_a_slow_body_is_answered_408_and_closed(impatient: Server) -> None:
    head = b"POST /json_test/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    answer = talk(impatient, head)
    assert answer.startswith(b"HTTP/1.1 408")


def test_clients_that_vanish_in_the_middle_of_an_upload_leave_nothing(server: Server) -> None:
    web = next(process for process in server.processes() if "tfserve.web.app" in command(process))
    server.http.get("/v2/health/live")
    before = web.num_fds()
    address = urlsplit(server.url)
    for _ in range(100):
        with socket.create_connection((address.hostname, address.port)) as sock:
            sock.sendall(
                b"POST /push_job/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{" + b"x" * 1000
            )
    wait_until(lambda: web.num_fds() <= before + 2)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_wrong_verb_is_answered_405_with_what_is_expected(server: Server, method: str) -> None:
    for path in ("/push_job/", "/json_test/"):
        answer = server.http.request(method, path)
        assert answer.status_code == 405
        if method != "HEAD":
            assert "POST" in answer.json()["result"]
            assert "\n" not in answer.json()["result"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "//", "//push_job//", "/%2e%2e/", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/push_job", "/a%0d%0ab",
        "/jobs/x", "/jobs/0x1/output", "/jobs/-1", "/jobs/99999999999999999999", "/%ff%fe", "/static/../tfserve",
    ],
)  # fmt: skip
def test_an_unknown_path_is_answered_in_json(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        raw = talk(
            server,
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode(),
        )
        status = int(raw.split()[1])
        assert status in (400, 404, 405), raw
        body = raw.partition(b"\r\n\r\n")[2]
        assert json.loads(body)["request_result"] is False


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/workspaces/escapes/files/%ff"), ("PUT", "/workspaces/escapes/files/caf%E9.txt"),
        ("GET", "/jobs/?search=%ff"), ("GET", "/workspaces/%C3/files/"), ("POST", "/upload/?name=%E4.txt"),
        ("POST", "/v1/models/%ff:predict"), ("GET", "/v2/models/%ED%A0%80"), ("GET", "/tasks/x/artifacts/%ff"),
    ],
)  # fmt: skip
def test_an_address_that_is_not_utf8_is_refused(server: Server, method: str, path: str) -> None:
    server.http.post("/create_workspace/", json={"name": "escapes"})
    answer = server.http.request(method, path, content=b"x")
    assert answer.status_code == 400, answer.text
    assert "is not UTF-8 after its escapes are decoded" in answer.text
    assert server.http.get("/workspaces/escapes/files/").json()["result"]["entries"] == []


def test_a_path_without_its_slash_is_answered_with_the_right_one(server: Server) -> None:
    assert_refused(server.http.post("/push_job", json={}), 404, "/push_job/")


@pytest.mark.parametrize(
    "data", [b"\0" * 100, b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"]
)
def test_what_is_not_http_is_refused(server: Server, data: bytes) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100).startswith((b"HTTP/1.1 400", b""))


# --- who may send a request at all


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    for answer in (
        server.http.post("/get_workspace/", json={}, headers={"Host": host}),
        server.http.get("/jobs/", headers={"Host": host}),
        server.http.get("/", headers={"Host": host}),
    ):
        assert_refused(answer, 403)


def test_a_request_without_a_host_is_refused(server: Server) -> None:
    assert b" 403 " in talk(server, b"POST /destroy/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n").splitlines()[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_a_request_from_a_page_of_another_origin_is_refused(server: Server, headers: dict[str, str]) -> None:
    for path in ("/", "/destroy/", "/push_job/", "/nothing"):
        assert_refused(server.http.post(path, content=b"", headers=headers), 403)


def test_a_page_of_its_own_may_send_requests(server: Server) -> None:
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.http.post("/get_workspace/", headers=headers).status_code == 200


def test_another_name_is_allowed_when_the_operator_names_it(start: Callable[..., Server]) -> None:
    server = start("--allowed-hosts", "models.example, other.example")
    assert server.http.post("/get_workspace/", headers={"Host": "Models.example:80"}).status_code == 200
    assert server.http.post("/get_workspace/", headers={"Host": "third.example"}).status_code == 403


# --- parts


def talk_until_closed(server: Server, data: bytes) -> bytes:
    try:
        return talk(server, data)
    except ConnectionError:
        return b""


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_it_survives_many_idle_connections(server: Server) -> None:
    address = urlsplit(server.url)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(300)]
    try:
        assert server.call("/json_test/", a=1) == {"a": 1}
    finally:
        for sock in idle:
            sock.close()
    assert psutil.pid_exists(server.pid)
