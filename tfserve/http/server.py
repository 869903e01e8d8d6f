"""uvicorn, with what it lacks: a limit on the time that a request's head may take, and word of clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tfserve.config import Settings

GRACEFUL_S = 3
MAX_HEAD_BYTES = 64 * 1024

CONNECTION = "tfserve.connection"
"""The key of a scope under which its `HttpConnection` is."""


class HttpConnection(Protocol):
    """What whoever answers a request may know of the connection that it came by."""

    on_lost: Callable[[], object] | None


def make_server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_protocol(settings.header_timeout_s),
            loop="none",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keep_alive_s),
            timeout_graceful_shutdown=GRACEFUL_S,
        )
    )


def _protocol(header_timeout_s: float) -> type[HttpToolsProtocol]:
    class ImpatientProtocol(HttpToolsProtocol):
        """Closes a connection whose request head does not arrive in time, or never ends; tells when it is lost."""

        #: Called when the client closes the connection. Whoever answers a request may set it, until it has answered.
        on_lost: Callable[[], object] | None = None
        _deadline: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._start_waiting()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._deadline is not None:  # the head is not complete yet
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._give_up()

        def on_message_begin(self) -> None:
            self._start_waiting()
            super().on_message_begin()
            cast(dict[str, Any], self.scope)[CONNECTION] = self

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)
            if self.on_lost is not None:
                self.on_lost()

        def _start_waiting(self) -> None:
            self._stop_waiting()
            self._head_bytes = 0
            self._deadline = self.loop.call_later(header_timeout_s, self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.close()

    return ImpatientProtocol
