"""Around all applications: request ids, the access log, and the one place where errors become responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfserve.errors import Internal, Kind, Stopping, TFserveError
from tfserve.web.http.access_log import AccessLog, AccessLogEntry, Started
from tfserve.web.http.bodies import ClientGone
from tfserve.web.http.request_ids import HEADER, TRACE_HEADER, begin, join_trace, trace_id
from tfserve.web.http.responses import (
    METHOD_NOT_ALLOWED,
    PROTOCOLS,
    REQUEST_TIMEOUT,
    STATUS,
    count_error,
    send_error,
)

log = logging.getLogger(__name__)

KINDS = {status: str(kind) for kind, status in STATUS.items()} | {
    METHOD_NOT_ALLOWED: "invalid",
    REQUEST_TIMEOUT: "timed_out",
}


class RequestBoundary:
    """ASGI middleware. Applications inside it may raise any error and need not handle a client that is gone."""

    def __init__(self, app: ASGIApp, access_log: AccessLog | None = None) -> None:
        self._access_log = access_log
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = trace = None
        for name, value in scope["headers"]:
            if name == HEADER:
                given = value
            elif name == TRACE_HEADER:
                trace = value
        request_id = begin(given)
        if trace is not None:
            join_trace(trace)
        if self._access_log is None:
            await self._respond(scope, receive, send, request_id)
        else:
            await self._respond_and_log(self._access_log, scope, receive, send, request_id)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        is_started = False

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
                if message["status"] >= 400:
                    count_error(scope, message["status"])
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            return
        except (Exception, asyncio.CancelledError) as error:
            known = reported(error, scope)
            if is_started:
                raise  # closes the connection, so that the client does not take a partial response for a complete one
            await send_error(scope, send_with_id, known)

    async def _respond_and_log(
        self, access_log: AccessLog, scope: Scope, receive: Receive, send: Send, request_id: bytes
    ) -> None:
        started = begin_entry(access_log, scope, request_id)
        counted = _CountedMessages(started.entry, receive, send)
        try:
            await self._respond(scope, counted.receive, counted.send, request_id)
        except Exception as error:
            started.entry.error = str(error.kind if isinstance(error, TFserveError) else Kind.INTERNAL)
            raise
        finally:
            end_entry(access_log, started)


def begin_entry(access_log: AccessLog, scope: Scope, request_id: bytes) -> Started:
    """The line of a request in the access log, which `end_entry` writes."""
    host, port = scope.get("client") or (None, 0)
    client = f"{host}:{port}" if port else host  # a proxy may not report the port
    path = scope["path"]
    started = access_log.begin(request_id=request_id.decode(), client=client, method=scope["method"], path=path)
    started.entry.trace_id = trace_id()
    started.entry.protocol = PROTOCOLS.get(path[:4])
    return started


def end_entry(access_log: AccessLog, started: Started) -> None:
    """Fills in the kind of error of a request that has ended."""
    entry = started.entry
    if entry.status is None:
        entry.error = entry.error or "client_gone"
    elif entry.error is None and isinstance(entry.status, int):
        entry.error = KINDS.get(entry.status)
    access_log.end(started)


def reported(error: BaseException, scope: Scope) -> TFserveError:
    """The error as clients see it. Unexpected errors are only described in the log."""
    if isinstance(error, TFserveError):
        return error
    if isinstance(error, asyncio.CancelledError):  # requests are only cancelled when the server stops
        return Stopping()
    log.error("error in %s %r", scope["method"], scope["path"][:200], exc_info=error)
    return Internal()


class _CountedMessages:
    """`receive` and `send` of a request that also record status and sizes in its access log entry."""

    def __init__(self, entry: AccessLogEntry, receive: Receive, send: Send) -> None:
        self._entry = entry
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self._entry.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._entry.status = message["status"]
        elif self._entry.method != "HEAD":
            self._entry.bytes_out += len(message.get("body", b""))
        await self._send(message)
