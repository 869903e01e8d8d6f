"""What the Python client makes of connections that break, and of files that change while they are sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tfserve_client import AsyncClient, Client, Invalid, Retries, Unauthenticated, UnexpectedResponse, Unreachable
from tfserve_client.output import until_ended

Respond = Callable[[BaseHTTPRequestHandler, bytes], None]
AT_ONCE = Retries(attempts=2, connecting=0, first_s=0.0)


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """A server that responds to each request as `respond` does, and closes its connection. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            respond(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        do_GET = do_POST = do_PATCH = do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def begin(request: BaseHTTPRequestHandler, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def broken(request: BaseHTTPRequestHandler, _: bytes) -> None:
    begin(request, ETag='"a"', Content_Length="100")
    request.wfile.write(b"x" * 10)


def test_a_download_that_breaks_is_unreachable_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"old")
    with serving(broken) as url:
        with Client(url, retries=0) as client:
            for download in (
                lambda: client.download_file("w", "a.bin", target),
                lambda: client.download_artifact("t", "a.bin", target),
                lambda: client.download_batch_output(1, target),
            ):
                with pytest.raises(Unreachable, match="No response from"):
                    download()

        async def use() -> None:
            async with AsyncClient(url, retries=0) as other:
                with pytest.raises(Unreachable):
                    await other.download_batch_output(1, target)

        asyncio.run(use())
    assert (target.read_bytes(), [each.name for each in tmp_path.iterdir()]) == (b"old", ["old"])


def test_the_output_of_a_batch_needs_no_entity_tag(tmp_path: Path) -> None:
    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        begin(request, Content_Length="5")
        request.wfile.write(b"lines")

    with serving(respond) as url, Client(url) as client:
        assert client.download_batch_output(1, tmp_path / "out") == 5
        assert (tmp_path / "out").read_bytes() == b"lines"
        with pytest.raises(Invalid, match="is a folder"):
            client.download_file("w", "a", tmp_path / "out")


def test_a_body_that_cannot_be_decompressed_is_an_unexpected_response() -> None:
    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        begin(request, Content_Encoding="gzip", Content_Length="4")
        request.wfile.write(b"none")

    with serving(respond) as url, Client(url) as client, pytest.raises(UnexpectedResponse, match="decompressed"):
        client.models()


def test_whether_a_model_is_ready_is_not_guessed() -> None:
    answers = {"/v2/models/a/ready": 200, "/v2/models/b/ready": 503, "/v2/models/c/ready": 401}

    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        body = json.dumps({"error": "why"}).encode()
        begin(request, answers[request.path], Content_Length=str(len(body)))
        request.wfile.write(body)

    with serving(respond) as url, Client(url) as client:
        assert client.is_model_ready("a")
        assert not client.is_model_ready("b")
        with pytest.raises(Unauthenticated, match="why"):
            client.is_model_ready("c")
    with Client(url) as client, pytest.raises(Unreachable):
        client.is_model_ready("a")


def test_signs_of_life_show_that_a_connection_worked() -> None:
    connections = []

    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        connections.append(request)
        begin(request, Content_Type="text/event-stream")
        is_last = len(connections) == 8
        request.wfile.write(b'event: end\ndata: {"state": "succeeded"}\n\n' if is_last else b": alive\n\n")

    with serving(respond) as url, Client(url, retries=AT_ONCE) as client:
        client._run(until_ended(client, "/jobs/1/output", None))
    assert len(connections) == 8


def test_connections_on_which_nothing_arrives_are_given_up() -> None:
    connections = []

    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        connections.append(request)
        begin(request, Content_Type="text/event-stream")

    with serving(respond) as url, Client(url, retries=AT_ONCE) as client, pytest.raises(Unreachable, match="closed"):
        client._run(until_ended(client, "/jobs/1/output", None))
    assert len(connections) == 3


def test_a_complete_upload_is_tried_again_although_nothing_is_left_to_send(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123")
    pieces = []

    def respond(request: BaseHTTPRequestHandler, piece: bytes) -> None:
        if request.command == "PATCH":
            pieces.append(piece)
        state = "complete" if len(pieces) > 1 else "receiving"
        info = {"id": "1", "state": state, "offset": 4 if pieces else 0, "size": 4, "path": "upload:1"}
        is_refused = request.command == "PATCH" and len(pieces) == 1
        found = {"error": "unpacking ended"} if is_refused else {"request_result": True, "result": info}
        body = json.dumps(found).encode()
        begin(request, 503 if is_refused else 200, Content_Length=str(len(body)))
        request.wfile.write(body)

    with serving(respond) as url, Client(url, retries=AT_ONCE) as client:
        assert client.upload(file) == "upload:1"
    assert pieces == [b"0123", b""]


@pytest.mark.parametrize("name", ["a" * 250, "link", "."])
def test_a_download_keeps_links_and_takes_long_names(tmp_path: Path, name: str) -> None:
    def respond(request: BaseHTTPRequestHandler, _: bytes) -> None:
        begin(request, Content_Length="3", ETag='"1"')
        request.wfile.write(b"new")

    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere")
    with serving(respond) as url, Client(url, retries=AT_ONCE) as client:
        if name == ".":
            with pytest.raises(Invalid, match="is a folder"):
                client.download_batch_output("1", tmp_path)
            return
        client.download_batch_output("1", tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_file_that_is_shortened_during_its_upload_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve_client.uploads.PIECE_BYTES", 4)
    file = tmp_path / "a.bin"
    file.write_bytes(b"0123456789")
    received = bytearray()

    def respond(request: BaseHTTPRequestHandler, piece: bytes) -> None:
        received.extend(piece)
        info = {"id": "1", "state": "receiving", "offset": len(received), "size": 10}
        body = json.dumps({"request_result": True, "result": info}).encode()
        begin(request, Content_Length=str(len(body)))
        request.wfile.write(body)

    with (
        serving(respond) as url,
        Client(url) as client,
        pytest.raises(Invalid, match="has only 4 of 10 bytes"),
    ):
        client.upload(file, progress=lambda *_: file.write_bytes(b"0123"))
    assert bytes(received) == b"0123"
