"""The outermost application: whatever else answers, or fails, does it behind this one.

It gives every request an id and, if there is an access log, a line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfserve.errors import Internal, Kind, Stopping
from tfserve.http.access_log import AccessLog, Entry
from tfserve.http.answers import PROTOCOLS, STATUS, count_error, refuse
from tfserve.http.request_ids import HEADER, begin

log = logging.getLogger(__name__)

KINDS = {status: str(kind) for kind, status in STATUS.items()} | {405: "invalid", 408: "timed_out"}


class Entrance:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, access_log: AccessLog | None = None) -> None:
        self._access_log = access_log
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = None
        for name, value in scope["headers"]:
            if name == HEADER:
                given = value
        request_id = begin(given)
        if self._access_log is None:
            await self._answer(scope, receive, send, request_id)
        else:
            await self._answer_and_log(self._access_log, scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
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
        except asyncio.CancelledError:  # only a server that stops gives requests up
            if is_started:
                raise
            await refuse(scope, send_with_id, Stopping())
        except Exception:
            log.exception("while answering %s %r", scope["method"], scope["path"][:200])
            if is_started:
                raise  # the connection is closed, so that nobody takes half an answer for a whole one
            await refuse(scope, send_with_id, Internal())

    async def _answer_and_log(
        self, access_log: AccessLog, scope: Scope, receive: Receive, send: Send, request_id: bytes
    ) -> None:
        host, port = scope.get("client") or (None, 0)
        client = f"{host}:{port}" if host else None
        method, path = scope["method"], scope["path"]
        with access_log.entry(request_id=request_id.decode(), client=client, method=method, path=path) as entry:
            entry.protocol = PROTOCOLS.get(path[:4])
            seen = _Seen(entry, receive, send)
            try:
                await self._answer(scope, seen.receive, seen.send, request_id)
            except Exception:
                entry.error = str(Kind.INTERNAL)
                raise
            if entry.status is None:
                entry.error = "client_gone"
            elif entry.error is None and isinstance(entry.status, int):
                entry.error = KINDS.get(entry.status)


class _Seen:
    """What stands between an application and its client, to see what goes through."""

    def __init__(self, entry: Entry, receive: Receive, send: Send) -> None:
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
