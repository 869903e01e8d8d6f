"""What the server adds to uvicorn for predictions: word of a client that leaves, and answers in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.config import Settings
from tfserve.web.http.bodies import ClientGone, read_body
from tfserve.web.http.connection import CONNECTION
from tfserve.web.http.response_bytes import CLOSE
from tfserve.web.http.responses import send_json
from tfserve.web.http.server import make_server

SETTINGS = Settings(header_timeout_s=0.3)
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
HEADERS = {b"date", b"content-length", b"content-type", b"x-content-type-options", b"x-more"}
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    """Answers with the body that it got, after it was told to; notes who has left."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        try:
            body = await read_body(scope, receive, SETTINGS)
        except ClientGone:
            return
        scope[CONNECTION].on_lost = self.left.set
        self.begun.set()
        await self.go_on.wait()
        scope[CONNECTION].on_lost = None
        await send_json(scope, send, body, headers=[(b"x-more", b"1")])


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Any]:
    listening = socket.create_server(("127.0.0.1", 0))
    server: uvicorn.Server = make_server(app, SETTINGS)
    task = asyncio.create_task(server.serve(sockets=[listening]))

    async def connect() -> Streams:
        return await asyncio.open_connection(*listening.getsockname())

    yield connect
    server.should_exit = True
    await task


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_whoever_answers_is_reported_when_the_client_leaves() -> None:
    async def scenario() -> None:
        app = App()
        async with serving(app) as connect:
            _, writer = await connect()
            writer.write(REQUEST)
            await app.begun.wait()
            assert not app.left.is_set()
            await closed(writer)
            await asyncio.wait_for(app.left.wait(), 5)
            app.go_on.set()

    asyncio.run(scenario())


def test_nobody_is_reported_when_a_client_leaves_after_its_answer() -> None:
    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app) as connect:
            reader, writer = await connect()
            writer.write(REQUEST)
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 OK\r\n")
            await closed(writer)
        assert not app.left.is_set()

    asyncio.run(scenario())


@pytest.mark.parametrize("pieces", [[REQUEST], [REQUEST[:-1], REQUEST[-1:]], [REQUEST[:9], REQUEST[9:]], [REQUEST * 3]])
def test_answers_are_complete_however_the_request_arrives(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app) as connect:
            reader, writer = await connect()
            for _ in range(2):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                for _ in range(b"".join(pieces).count(b"POST")):
                    head = await reader.readuntil(b"\r\n\r\n")
                    names = {line.partition(b":")[0] for line in head.splitlines()[1:-1]}
                    assert names - {b"x-request-id"} == HEADERS, "ids are the entrance's, which is not there"
                    assert await reader.readexactly(2) == b"hi"
            await closed(writer)

    asyncio.run(scenario())


def test_old_clients_and_those_that_want_it_get_a_closed_connection() -> None:
    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app) as connect:
            for request in (
                REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
                REQUEST.replace(b"Host", b"Connection: close\r\nHost"),
            ):
                reader, writer = await connect()
                writer.write(request)
                answer = await asyncio.wait_for(reader.read(), 5)
                assert answer.endswith(b"\r\n\r\nhi")
                assert b"connection: close" in answer
                await closed(writer)

    asyncio.run(scenario())


def test_a_head_that_is_never_complete_is_given_up_on_the_first_and_on_later_requests() -> None:
    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app) as connect:
            for first in (b"", REQUEST):
                reader, writer = await connect()
                writer.write(first)
                if first:
                    await reader.readuntil(b"hi")
                writer.write(REQUEST[:20])
                assert await asyncio.wait_for(reader.read(), 5) == b""
                await closed(writer)

    asyncio.run(scenario())


def test_a_client_that_is_still_sending_gets_the_whole_response() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_json(scope, send, b"{}", status=413, headers=[CLOSE])
        else:
            await App()(scope, receive, send)

    async def scenario() -> None:
        async with serving(refuse) as connect:
            reader, writer = await connect()
            writer.write(REQUEST.replace(b"Length: 2", b"Length: 10000000"))
            response = await reader.read()  # up to its end
            assert response.startswith(b"HTTP/1.1 413 ")
            assert response.endswith(b"\r\n\r\n{}")
            for _ in range(100):
                writer.write(b" " * 65536)
                await writer.drain()
            await closed(writer)

    asyncio.run(scenario())


# --- requests that are refused before they are read


def all_received(data: bytes, app: App, caplog: pytest.LogCaptureFixture) -> bytes:
    """What a client gets until the connection is closed. Nothing is logged as an error of the server."""

    async def scenario() -> bytes:
        async with serving(app) as connect:
            reader, writer = await connect()
            writer.write(data)
            if data.startswith(REQUEST):
                await app.begun.wait()
            received = b""
            with contextlib.suppress(ConnectionResetError):  # for what the server has not read
                received = await asyncio.wait_for(reader.read(), 20)
            app.go_on.set()
            await closed(writer)
            return received

    received = asyncio.run(scenario())
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []
    return received


@pytest.mark.parametrize("end", [b"\r\n\r\nhi", b""], ids=["whole", "without an end"])
@pytest.mark.parametrize("size", [70_000, 120_000, 500_000])
def test_a_head_that_is_too_large_is_431_however_it_arrives(
    caplog: pytest.LogCaptureFixture, size: int, end: bytes
) -> None:
    start, more = REQUEST.removesuffix(b"\r\n\r\nhi"), b"x" * size
    # without an end, the piece in which a head begins does not count
    received = all_received(start + b"\r\nX: " + more + (end or b"x" * 300_000), App(), caplog)
    assert received.startswith(b"HTTP/1.1 431 ")
    assert received.count(b"HTTP/1.1") == 1
    assert b"more than 65536 bytes" in received


def test_many_small_requests_in_one_piece_are_no_large_head(caplog: pytest.LogCaptureFixture) -> None:
    app, count = App(), 3000
    app.go_on.set()
    last = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    received = all_received(last.join([REQUEST * count, b""]), app, caplog)
    assert received.count(b"HTTP/1.1 200 ") == count + 1


@pytest.mark.parametrize("junk", [b"zz\r\n" + b"x" * 120_000, b"2\r\nhi\r\n" + b"\0" * 180_000])
def test_a_broken_body_is_refused_once(caplog: pytest.LogCaptureFixture, junk: bytes) -> None:
    head = REQUEST.removesuffix(b"\r\n\r\nhi").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")
    received = all_received(head + b"\r\n\r\n" + junk, App(), caplog)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") == 1
    assert sum("Invalid HTTP request" in each.getMessage() for each in caplog.records) <= 2, "uvicorn's line, and ours"


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\nX: " + b"x" * 400_000, b"\0\0\0"])
def test_a_refusal_is_never_taken_for_the_response_to_an_earlier_request(
    caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    app = App()
    assert all_received(REQUEST + junk, app, caplog) == b""
    assert app.left.is_set()


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + OFFER + b"\r\n2\r\nhi\r\n0\r\n\r\n"
WHOLE = REQUEST.replace(b"Content-Length", OFFER + b"Content-Length")
WEBSOCKET = REQUEST.replace(b"Content-Length", b"Connection: close, Upgrade\r\nUpgrade: websocket\r\nContent-Length")


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE],
        [WHOLE[:70], WHOLE[70:-2], WHOLE[-2:]],
        [bytes((byte,)) for byte in WHOLE],
        [CHUNKED],
        [CHUNKED[:-9], CHUNKED[-9:]],
        [WEBSOCKET],
    ],
    ids=["whole", "pieces", "bytes", "chunks", "two chunks", "websocket"],
)
def test_the_body_of_a_request_that_offers_another_protocol_is_read(pieces: list[bytes]) -> None:
    """Java's HttpClient makes such offers. The connection serves further requests, with and without an offer."""

    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app) as connect:
            reader, writer = await connect()
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            assert await body(reader) == b"hi"
            if b"close" not in pieces[0]:
                writer.write(REQUEST.replace(b"hi", b"ho") + WHOLE.replace(b"hi", b"ha"))
                assert [await body(reader), await body(reader)] == [b"ho", b"ha"]
            await closed(writer)

    asyncio.run(scenario())


async def body(reader: asyncio.StreamReader) -> bytes:
    """The body of the next response, which is of two bytes."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200"), head
    return await asyncio.wait_for(reader.readexactly(2), 10)
