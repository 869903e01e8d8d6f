"""uvicorn with three additions: a time limit for request headers, notice of clients that leave, one-write responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tfserve.certificates import files_of
from tfserve.config import Settings
from tfserve.web.http.body_collector import BodyCollector
from tfserve.web.http.request_ids import fresh_id
from tfserve.web.http.tls import reloading_context

log = logging.getLogger(__name__)

GRACEFUL_S = 3
MAX_HEAD_BYTES = 64 * 1024
MAX_ONE_PIECE = 64 * 1024
HSTS_S = 365 * 24 * 3600

Header = tuple[bytes, bytes]

CONNECTION = "tfserve.connection"
"""The key of the `HttpConnection` in a scope."""


class HttpConnection(Protocol):
    """The connection of a request, for the application that responds.

    `on_lost` is called when the client closes the connection. An application that sets it must reset it after the
    response.
    """

    on_lost: Callable[[], object] | None

    @property
    def is_lost(self) -> bool:
        """Whether the client closed the connection before it got the last response."""

    def whole_body(self, scope: Scope) -> bytes | None:
        """The body of this request if it has already arrived completely, otherwise None."""

    def collect(self, scope: Scope, limit: int) -> BodyCollector | None:
        """Collects the body of this request, up to `limit` bytes. None if it must be read with `receive`.

        uvicorn pauses after each 64 KiB until the application has received them, which costs more than the data.
        """

    def respond(self, scope: Scope, status: int, headers: Sequence[Header], content: bytes) -> bool:
        """Sends a complete response in one write. False if it must be sent with `send`.

        uvicorn uses a system call and a packet each for headers and body, which takes a sixth of a prediction's time.
        """


def make_server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """Raises `CertificateUnusable`."""
    config = uvicorn.Config(
        app,
        http=_protocol(settings.header_timeout_s),
        loop="none",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        headers=_security_headers(settings),
        timeout_keep_alive=int(settings.keep_alive_s),
        timeout_graceful_shutdown=GRACEFUL_S,
    )
    config.load()
    if (files := files_of(settings)) is not None:
        config.ssl = reloading_context(files)
    return uvicorn.Server(config)


def _security_headers(settings: Settings) -> list[tuple[str, str]]:
    """Headers of every response. Browsers remember HSTS for a host, so a trial certificate must not send it."""
    headers = [("x-content-type-options", "nosniff")]
    if settings.tls_cert and not settings.tls_self_signed:
        headers.append(("strict-transport-security", f"max-age={HSTS_S}"))
    return headers


def _protocol(header_timeout_s: float) -> type[HttpToolsProtocol]:
    return cast(type[HttpToolsProtocol], type("Protocol", (HttpProtocol,), {"header_timeout_s": header_timeout_s}))


class HttpProtocol(HttpToolsProtocol):
    """An `HttpConnection` that is closed if the headers of a request are too slow or too large."""

    header_timeout_s = 10.0
    on_lost: Callable[[], object] | None = None
    _collector: BodyCollector | None = None
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    @property
    def is_lost(self) -> bool:
        return self.cycle.disconnected

    def whole_body(self, scope: Scope) -> bytes | None:
        cycle = self.cycle
        if cycle.more_body or cycle.scope is not scope or cycle.disconnected:
            return None
        body = bytes(cycle.body)
        cycle.body.clear()
        return body

    def collect(self, scope: Scope, limit: int) -> BodyCollector | None:
        cycle = self.cycle
        if cycle.scope is not scope or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        collector = self._collector = BodyCollector(limit)
        collector.add(bytes(cycle.body))
        cycle.body.clear()
        self.flow.resume_reading()
        return collector

    def respond(self, scope: Scope, status: int, headers: Sequence[Header], content: bytes) -> bool:
        cycle = self.cycle
        if cycle.disconnected:
            return True
        if not _is_simple(cycle, scope) or self.flow.write_paused or len(content) > MAX_ONE_PIECE:
            return False
        lines = [name + b": " + value + b"\r\n" for name, value in (*cycle.default_headers, *headers)]
        self.transport.write(b"".join((STATUS_LINE[status], *lines, b"\r\n", content)))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:  # rare: most headers arrive in one piece
            if self._deadline is None:
                self._start_deadline()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._close()

    def send_400_response(self, msg: str) -> None:
        """Malformed requests get an id too, so that they can be found in the log."""
        request_id, text = fresh_id(), msg.encode("ascii")
        log.warning("%s [request %s]", msg, request_id.decode())
        head = b"HTTP/1.1 400 Bad Request\r\nx-request-id: %b\r\nx-content-type-options: nosniff\r\n" % request_id
        rest = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        self.transport.write(head + rest % (len(text), text))
        self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[CONNECTION] = self

    def on_body(self, body: bytes) -> None:
        if self._collector is None:
            super().on_body(body)
        else:
            self._collector.add(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._collected()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_deadline()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_head = False
        self._stop_deadline()
        super().connection_lost(exc)
        if self._collector is not None:
            self._collector.lost()
        if self.on_lost is not None:
            self.on_lost()

    def _collected(self) -> None:
        if self._collector is not None:
            self._collector.finish()
            self._collector = None

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def _is_simple(cycle: RequestResponseCycle, scope: Scope) -> bool:
    """Whether this request has arrived completely, has no response yet, and leaves the connection open."""
    return (
        cycle.scope is scope
        and cycle.keep_alive
        and not (cycle.more_body or cycle.response_started or cycle.waiting_for_100_continue)
        and scope["method"] != "HEAD"
    )
