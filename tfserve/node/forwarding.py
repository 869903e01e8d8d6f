"""Forwards the requests that a node does not answer itself to the head, in pieces, as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

import aiohttp
from starlette.types import Receive, Scope, Send
from yarl import URL

from tfserve.cluster import sockets
from tfserve.errors import Unavailable
from tfserve.web.http.bodies import ClientGone
from tfserve.web.http.forwarded import is_forwarded
from tfserve.web.http.request_ids import HEADER, REQUEST_ID
from tfserve.web.http.responses import ResponseLost
from tfserve.web.predictions.request import caller_of

CONNECT_S = 3.0
IDLE_S = 30.0
"""Shorter than the head keeps an idle connection open."""
MAX_HEADER_BYTES = 64 * 1024

OF_CONNECTION = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
})  # fmt: skip
"""Headers that are about a connection, and not about the request."""
OF_SERVER = frozenset({b"date", b"server", b"x-content-type-options", b"strict-transport-security", HEADER})
"""Headers that the node adds to each of its responses."""
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add if the client has not sent them."""
CLOSING = (408, 413)
"""With these, the rest of the body is not read."""


class HeadUnreachable(Unavailable):
    """This node answers predictions, and the head of the cluster answers everything else, but the head can't be \
reached: {cause} Try again later."""


class HeadLost(ResponseLost):
    """The connection to the head of the cluster was lost before its response was complete. The request may have been \
carried out: check that before you send it again."""


class NodeStopped(ResponseLost):
    """This node was stopped before the head of the cluster had responded. The request may have been carried out: \
check that before you send it again, to another node or to the head."""


class HeadPort(NamedTuple):
    """The port of the head for requests of nodes."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Forwarder:
    """An ASGI application. Raises `HeadUnreachable`, `HeadLost`, `NodeStopped`, `ClientGone`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        #: None before the node has been connected to the head
        self.target: HeadPort | None = None
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = self._known_target()
        with caller_of(scope) as caller:
            exchange = asyncio.ensure_future(self._exchange(target, scope, receive, send))
            caller.on_gone = exchange.cancel
            try:
                await exchange
            except (asyncio.CancelledError, HeadLost) as error:
                if caller.is_gone:
                    raise ClientGone from None
                exchange.cancel()
                if isinstance(error, HeadLost):
                    raise
                raise NodeStopped from None  # the server cancels what has not ended in time

    async def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the head's response to a POST request of the node itself, in the current request."""
        target = self._known_target()
        given = {**headers, HEADER.decode(): REQUEST_ID.get().decode()}
        with _reaching(target):
            async with self._opened().post(f"https://{target}{path}", data=body, headers=given) as response:
                return response.status, await response.read()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, target: HeadPort, scope: Scope, receive: Receive, send: Send) -> None:
        with _reaching(target):
            async with self._opened().request(
                scope["method"], _url(target, scope), data=_Body(receive) if _has_body(scope) else None,
                headers=_request_headers(scope), allow_redirects=False,
            ) as response:  # fmt: skip
                await _send(response, send)

    def _known_target(self) -> HeadPort:
        if self.target is None:
            raise HeadUnreachable(cause="this node has not been connected to it yet.")
        return self.target

    def _opened(self) -> aiohttp.ClientSession:
        self._session = self._session or _session(self._context)
        return self._session


@contextlib.contextmanager
def _reaching(target: HeadPort) -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise HeadUnreachable(cause=f"{target} did not respond within {CONNECT_S:g} s.") from None
    except aiohttp.ClientConnectorError as error:
        raise HeadUnreachable(cause=f"{target}: {error.os_error.strerror or error.os_error}.") from None
    except (aiohttp.ClientError, ConnectionError):
        raise HeadLost from None


class _Body:
    """The body of a request in pieces. It can be read once: a request is only repeated if it has no body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_read:
            raise aiohttp.ClientPayloadError("the body was sent already")
        self._is_read = True
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise aiohttp.ClientPayloadError("the client has closed the connection")
            if message.get("body"):
                yield message["body"]
            more = bool(message.get("more_body"))


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=IDLE_S, socket_factory=_socket)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        auto_decompress=False,
        skip_auto_headers=NOT_ADDED,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    sock = sockets.watched(socket.socket(family, kind, protocol))
    sock.setblocking(False)
    return sock


async def _send(response: aiohttp.ClientResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": _response_headers(response)})
    async for piece in response.content.iter_any():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _url(target: HeadPort, scope: Scope) -> URL:
    """Path and query as the client sent them."""
    path, query = scope["raw_path"].partition(b"?")[0], scope["query_string"]
    text = (path + (b"?" + query if query else b"")).decode("latin-1")
    return URL(f"https://{target}{text}", encoded=True)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _request_headers(scope: Scope) -> list[tuple[str, str]]:
    """Those of the client, with what only the node knows about it."""
    host, headers = "head", []
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
        elif name not in OF_CONNECTION and name != HEADER and not is_forwarded(name):
            headers.append((name.decode("latin-1"), value.decode("utf-8", "replace")))
    address, port = scope.get("client") or ("127.0.0.1", 0)
    return [
        *headers,
        ("host", host),
        (HEADER.decode(), REQUEST_ID.get().decode()),
        ("x-forwarded-for", _address(address, port)),
        ("x-forwarded-proto", scope["scheme"]),
    ]


def _address(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def _response_headers(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Those of the head, except for what the node adds itself."""
    headers = []
    for name, value in response.raw_headers:
        lower = name.lower()
        if lower not in OF_CONNECTION and lower not in OF_SERVER and not lower.startswith(b"access-control-"):
            headers.append((lower, value))
    return [*headers, (b"connection", b"close")] if response.status in CLOSING else headers
