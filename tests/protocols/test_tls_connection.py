"""What the server adds to uvicorn works over TLS too: notice of clients that leave, responses in one write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.protocols.test_http_connection import REQUEST, App
from tfserve.config import Settings
from tfserve.web.http.server import make_server
from tfserve.web.http.tls import new_loop

CLOSED_S = 10
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextlib.asynccontextmanager
async def serving(app: Any, authority: Authority) -> AsyncIterator[Connect]:
    pair = authority.pair("server")
    settings = Settings(header_timeout_s=0.3, tls_cert=str(pair.certificate), tls_key=str(pair.key))
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, settings)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    yield partial(asyncio.open_connection, *listening.getsockname(), ssl=authority.trust(), server_hostname="localhost")
    server.should_exit = True
    await task


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=partial(new_loop, 0.3)) as runner:
        runner.run(scenario())  # type: ignore[arg-type]


@pytest.mark.parametrize("abruptly", [False, True])
def test_the_application_is_notified_when_the_client_leaves(authority: Authority, abruptly: bool) -> None:
    async def scenario() -> None:
        app = App()
        async with serving(app, authority) as connect:
            _, writer = await connect()
            writer.write(REQUEST)
            await app.begun.wait()
            if abruptly:
                writer.transport.abort()
            else:
                writer.close()
            await asyncio.wait_for(app.left.wait(), CLOSED_S)
            app.go_on.set()

    run(scenario)


def test_a_response_is_one_tls_record(authority: Authority) -> None:
    """Counted below a TLS client that reads its records one by one."""

    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app, authority) as connect:
            _, writer = await connect()
            address = writer.get_extra_info("peername")
            assert await asyncio.to_thread(_reads_of_two_responses, address, authority.trust()) == 2
            writer.close()

    run(scenario)


def _reads_of_two_responses(address: tuple[str, int], context: ssl.SSLContext) -> int:
    reads = 0
    plain = socket.create_connection(address, timeout=CLOSED_S)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        for _ in range(2):
            connection.sendall(REQUEST)
            data = b""
            while not data.endswith(b"\r\n\r\nhi"):
                data += connection.recv(65536)  # returns one record
                reads += 1
    return reads


def test_a_handshake_that_takes_too_long_is_closed(authority: Authority) -> None:
    async def scenario() -> None:
        app = App()
        async with serving(app, authority) as connect:
            _, writer = await connect()
            reader, slow = await asyncio.open_connection(*writer.get_extra_info("peername"))
            assert await asyncio.wait_for(reader.read(), CLOSED_S) == b""
            slow.close()
            writer.close()

    run(scenario)


def test_a_certificate_that_is_removed_before_a_handshake_is_still_used(authority: Authority, tmp_path: Path) -> None:
    async def scenario() -> None:
        app = App()
        app.go_on.set()
        async with serving(app, authority) as connect:
            authority.pair("server").certificate.unlink()
            reader, writer = await connect()
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200 OK")
            writer.close()

    run(scenario)
