"""Forwards the requests that a node does not answer itself to the head, in pieces, as they arrive."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpcore
from starlette.types import Receive, Scope, Send

from tfserve.cluster import sockets
from tfserve.errors import Unavailable
from tfserve.web.http.bodies import ClientGone
from tfserve.web.http.forwarded import is_forwarded
from tfserve.web.http.request_ids import HEADER, REQUEST_ID
from tfserve.web.http.responses import ResponseLost
from tfserve.web.predictions.request import caller_of

CONNECT_S = 3.0
MAX_CONNECTIONS = 1000
IDLE_CONNECTIONS = 32
IDLE_S = 30.0
"""Shorter than the head keeps an idle connection open."""

OF_CONNECTION = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
})  # fmt: skip
"""Headers that are about a connection, and not about the request."""
OF_SERVER = frozenset({b"date", b"server", b"x-content-type-options", b"strict-transport-security", HEADER})
"""Headers that the node adds to each of its responses."""
CLOSING = (408, 413)
"""With these, the rest of the body is not read."""
REPEATABLE = ("GET", "HEAD")

CANNOT_CONNECT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)
LOST = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

Header = tuple[bytes, bytes]


class HeadUnreachable(Unavailable):
    """This node answers predictions, and the head of the cluster answers everything else, but the head can't be \
reached: {cause} Try again later."""


class HeadLost(ResponseLost):
    """The connection to the head of the cluster was lost before its response was complete. The request may have been \
carried out: check that before you send it again."""


class Target(NamedTuple):
    """The port of the head for requests of nodes."""

    host: str
    port: int


class Forwarder:
    """An ASGI application. Raises `HeadUnreachable`, `HeadLost`, `ClientGone`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        #: None before the node has been connected to the head
        self.target: Target | None = None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            socket_options=sockets.OPTIONS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.target is None:
            raise HeadUnreachable(cause="this node has not been connected to it yet.")
        with caller_of(scope) as caller:
            exchange = asyncio.ensure_future(self._exchange(self.target, scope, receive, send))
            caller.on_gone = exchange.cancel
            try:
                await exchange
            except asyncio.CancelledError:
                if caller.is_gone:
                    raise ClientGone from None
                exchange.cancel()
                raise

    async def _exchange(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Repeats a request that only reads once: the head may close an idle connection just when it is used again."""
        response = None
        for may_repeat in (scope["method"] in REPEATABLE, False):
            try:
                response = await self._pool.handle_async_request(_request(target, scope, receive))
                break
            except CANNOT_CONNECT as error:
                raise HeadUnreachable(cause=_cause(error, target)) from None
            except LOST:
                if not may_repeat:
                    raise HeadLost from None
        assert response is not None
        try:
            await _send(response, send)
        except LOST:
            raise HeadLost from None
        finally:
            await response.aclose()


def _request(target: Target, scope: Scope, receive: Receive) -> httpcore.Request:
    return httpcore.Request(
        scope["method"],
        httpcore.URL(scheme=b"https", host=target.host.encode(), port=target.port, target=_target(scope)),
        headers=_request_headers(scope),
        content=_body(receive) if _has_body(scope) else b"",
        extensions={"timeout": {"connect": CONNECT_S}},
    )


async def _send(response: httpcore.Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": _response_headers(response)})
    async for piece in response.aiter_stream():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _cause(error: Exception, target: Target) -> str:
    if isinstance(error, httpcore.ConnectTimeout):
        return f"{target.host}:{target.port} did not respond within {CONNECT_S:g} s."
    return f"{target.host}:{target.port} can't be connected to."


def _target(scope: Scope) -> bytes:
    """Path and query as the client sent them."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path.partition(b"?")[0] + (b"?" + query if query else b"")


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """The body in pieces. Raises `ClientGone`."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if message.get("body"):
            yield message["body"]
        more = bool(message.get("more_body"))


def _request_headers(scope: Scope) -> list[Header]:
    """Those of the client, with what only the node knows about it."""
    host, headers, is_chunked = b"", [], False
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        is_chunked |= name == b"transfer-encoding"
        if name not in OF_CONNECTION and name != HEADER and not is_forwarded(name):
            headers.append((name, value))
    if is_chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    address, port = scope.get("client") or ("127.0.0.1", 0)
    headers += [
        (HEADER, REQUEST_ID.get()),
        (b"x-forwarded-for", _address(address, port)),
        (b"x-forwarded-proto", scope["scheme"].encode()),
    ]
    return [*headers, (b"x-forwarded-host", host)] if host else [*headers, (b"host", b"head")]


def _address(host: str, port: int) -> bytes:
    shown = f"[{host}]" if ":" in host else host
    return (f"{shown}:{port}" if port else shown).encode()


def _response_headers(response: httpcore.Response) -> list[Header]:
    """Those of the head, except for what the node adds itself."""
    headers = []
    for name, value in response.headers:
        lower = name.lower()
        if lower not in OF_CONNECTION and lower not in OF_SERVER and not lower.startswith(b"access-control-"):
            headers.append((lower, value))
    return [*headers, (b"connection", b"close")] if response.status in CLOSING else headers
