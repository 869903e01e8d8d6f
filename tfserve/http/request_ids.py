"""Request ids: taken from the client if they can be, else made, and given back with every answer.

This is the outermost application: whatever else answers, or fails, does it behind this one.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfserve.errors import Internal
from tfserve.http.access_log import PROTOCOLS, AccessLog
from tfserve.http.answers import refuse

log = logging.getLogger(__name__)

HEADER = b"x-request-id"

#: the id of the request that is being answered
REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")

_is_well_formed = re.compile(rb"[!-~]{1,128}").fullmatch
_prefix = secrets.token_hex(6).encode()
_numbers = itertools.count(1)


def fresh_id() -> bytes:
    """Never the same again: random for this process, and counted in it."""
    return b"%b-%x" % (_prefix, next(_numbers))


def begin(given: bytes | None) -> bytes:
    """The id of the request that begins here, in every protocol; the log lines of its task tell it from now on.

    It is the client's own if that is 1 to 128 printable ASCII characters without spaces, else a fresh one.
    """
    request_id = given if given is not None and _is_well_formed(given) else fresh_id()
    REQUEST_ID.set(request_id)
    return request_id


class HttpErrors:
    """How many requests were answered with an error, by API and status."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}

    def add(self, path: str, status: int) -> None:
        statuses = self.counts.setdefault(PROTOCOLS.get(path[:4], "other"), {})
        statuses[str(status)] = statuses.get(str(status), 0) + 1


class RequestIds:
    """An ASGI application in front of another one. Answers with a status from 400 on are counted."""

    def __init__(self, app: ASGIApp, http_errors: HttpErrors, access_log: AccessLog | None = None) -> None:
        self._http_errors = http_errors
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
            return
        with self._access_log.http_entry(scope, receive, send, request_id.decode()) as entry:
            await self._answer(scope, entry.receive, entry.send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        is_started = False

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
                if message["status"] >= 400:
                    self._http_errors.add(scope["path"], message["status"])
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("while answering %s %r", scope["method"], scope["path"][:200])
            if is_started:
                raise  # the connection is closed, so that nobody takes half an answer for a whole one
            await refuse(scope, send_with_id, Internal())


class TellRequest(logging.Filter):
    """Makes `%(request)s` of a log line say which request it belongs to, if any."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = REQUEST_ID.get()
        record.request = f" [request {request_id.decode()}]" if request_id else ""
        return True
