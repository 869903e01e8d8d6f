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
from tfserve.web.http.bodies import read_body
from tfserve.web.http.protocol import CONNECTION
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
        body = await read_body(scope, receive, SETTINGS)
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
