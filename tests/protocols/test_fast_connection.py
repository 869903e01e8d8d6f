"""Which requests a connection gives to the fast application, and what it guarantees to both applications."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from tests.protocols.test_http_connection import SETTINGS, Streams, closed
from tfserve.web.http.bodies import read_body
from tfserve.web.http.exchange import MAX_BODY_BYTES, Exchange, Response
from tfserve.web.http.responses import send_json
from tfserve.web.http.server import make_server

FAST, SLOW = b"fast", b"slow"
LINE = b"POST /v1/models/m:predict HTTP/1.1\r\n"


class Both:
    """The fast application and the ASGI application. Both respond with their name and the body, once they may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.left = asyncio.Event()
        self.admitting = True

    def path(self, url: bytes) -> str | None:
        return url.decode() if url.endswith(b":predict") else None

    def admits(self, exchange: Exchange) -> bool:
        return self.admitting

    async def respond(self, exchange: Exchange) -> Response | None:
        exchange.on_lost = self.left.set
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            return Response(503, b"", b"stopping")
        return Response(200, b"x-more: 1\r\n", FAST + exchange.body)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.begun.set()
        body = await read_body(scope, receive, SETTINGS)
        await self.go_on.wait()
        await send_json(scope, send, SLOW + body)


@contextlib.asynccontextmanager
async def serving(app: Both) -> AsyncIterator[Any]:
    listening = socket.create_server(("127.0.0.1", 0))
    server: uvicorn.Server = make_server(app, SETTINGS, app)
    task = asyncio.create_task(server.serve(sockets=[listening]))

    async def connect() -> Streams:
        return await asyncio.open_connection(*listening.getsockname())

    connect.server = server  # type: ignore[attr-defined]
    yield connect
    server.should_exit = True
    await task


def request(body: bytes = b"hi", *headers: bytes, line: bytes = LINE) -> bytes:
    lines = [line, b"Host: localhost\r\n", b"Content-Length: %d\r\n" % len(body), *(each + b"\r\n" for each in headers)]
    return b"".join(lines) + b"\r\n" + body


async def response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head in lower case, and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


ORDINARY = [
    request(),
    request(b""),
    request(b"hi", b"Connection: keep-alive", b"User-Agent: someone", b"Accept: */*", b"Accept-Encoding: gzip"),
    request(b"x" * MAX_BODY_BYTES),
]
UNUSUAL = [
    request(line=b"GET /v1/models/m:predict HTTP/1.1\r\n"),
    request(line=b"POST /v1/models/m HTTP/1.1\r\n"),
    request(line=b"POST /v1/models/m:predict HTTP/1.0\r\n"),
    request(b"x" * (MAX_BODY_BYTES + 1)),
    request(b"hi", b"Connection: close"),
    request(b"hi", b"Connection: keep-alive, x"),
    request(b"hi", b"Content-Encoding: identity"),
    request(b"hi", b"Origin: http://localhost"),
    request(b"hi", b"Prefer: respond-async"),
    request(b"hi", b"Accept: a", b"Accept: b"),
    LINE + b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
]


@pytest.mark.parametrize(("sent", "name"), [*((each, FAST) for each in ORDINARY), *((each, SLOW) for each in UNUSUAL)])
def test_only_ordinary_requests_are_for_the_fast_application(sent: bytes, name: bytes) -> None:
    async def scenario() -> None:
        async with serving(Both()) as connect:
            reader, writer = await connect()
            writer.write(sent)
            _, body = await response(reader)
            assert body[:4] == name
            assert body[4:] in sent
            await closed(writer)

    asyncio.run(scenario())


def test_a_client_that_wants_to_be_told_to_continue_is_told() -> None:
    async def scenario() -> None:
        async with serving(Both()) as connect:
            reader, writer = await connect()
            head, body = request(b"hi", b"Expect: 100-continue").split(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await response(reader))[1] == b"slowhi"
            await closed(writer)

    asyncio.run(scenario())


def test_a_request_in_small_pieces_is_complete() -> None:
    async def scenario() -> None:
        async with serving(Both()) as connect:
            reader, writer = await connect()
            writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request(b"in pieces"):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await response(reader))[1] == b"fastin pieces"
            await closed(writer)

    asyncio.run(scenario())


def test_a_body_that_takes_long_goes_on_through_asgi() -> None:
    async def scenario() -> None:
        app = Both()
        async with serving(app) as connect:
            reader, writer = await connect()
            writer.write(request(b"slow body")[:-4])
            await app.begun.wait()
            writer.write(b"body")
            assert (await response(reader))[1] == b"slowslow body"
            writer.write(request())
            assert (await response(reader))[1] == b"fasthi", "the next request is ordinary again"
            await closed(writer)

    asyncio.run(scenario())


def test_what_the_fast_application_does_not_admit_goes_through_asgi() -> None:
    async def scenario() -> None:
        app = Both()
        app.admitting = False
        async with serving(app) as connect:
            reader, writer = await connect()
            for _ in range(2):
                writer.write(request())
                assert (await response(reader))[1] == b"slowhi"
            await closed(writer)

    asyncio.run(scenario())


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def scenario() -> None:
        app = Both()
        app.go_on.clear()
        async with serving(app) as connect:
            reader, writer = await connect()
            asyncio.get_running_loop().call_later(0.1, app.go_on.set)
            writer.write(b"".join(request(b"%d" % n) for n in range(5)))
            bodies = [(await response(reader))[1] for _ in range(5)]
            assert [body[4:] for body in bodies] == [b"0", b"1", b"2", b"3", b"4"]
            assert bodies[0][:4] == FAST
            assert bodies[1][:4] == SLOW, "one at a time"
            await closed(writer)

    asyncio.run(scenario())


def test_the_fast_application_learns_that_the_client_has_left() -> None:
    async def scenario() -> None:
        app = Both()
        app.go_on.clear()
        async with serving(app) as connect:
            _, writer = await connect()
            writer.write(request())
            await app.begun.wait()
            await closed(writer)
            await asyncio.wait_for(app.left.wait(), 5)
            app.go_on.set()

    asyncio.run(scenario())


def test_a_server_that_stops_finishes_the_request_and_closes_the_connection() -> None:
    async def scenario() -> None:
        app = Both()
        app.go_on.clear()
        async with serving(app) as connect:
            reader, writer = await connect()
            writer.write(request())
            await app.begun.wait()
            connect.server.should_exit = True
            asyncio.get_running_loop().call_later(0.5, app.go_on.set)
            head, body = await response(reader)
            assert body == b"fasthi"
            assert b"\r\nconnection: close\r\n" in head
            assert await reader.read() == b""
            await closed(writer)

    asyncio.run(scenario())


def test_what_takes_too_long_to_stop_is_cancelled_with_a_response() -> None:
    async def scenario() -> None:
        app = Both()
        app.go_on.clear()
        async with serving(app) as connect:
            reader, writer = await connect()
            writer.write(request())
            await app.begun.wait()
            connect.server.should_exit = True
            head, body = await response(reader)
            assert head.startswith(b"http/1.1 503 ")
            assert body == b"stopping"
            await closed(writer)

    asyncio.run(scenario())


def test_connections_that_are_idle_too_long_are_closed() -> None:
    async def scenario() -> None:
        app = Both()
        listening = socket.create_server(("127.0.0.1", 0))
        server = make_server(app, SETTINGS, app)
        server.config.timeout_keep_alive = 1
        task = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for _ in range(3):
            writer.write(request())
            await response(reader)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await closed(writer)
        server.should_exit = True
        await task

    asyncio.run(scenario())
