"""Requests that last: a token or session that ends also ends the requests that it has begun."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from tfserve.errors import DatabaseUnavailable
from tfserve.web.access.authenticator import TokenEnded
from tfserve.web.http.connection import CONNECTION, HIDDEN_CONNECTION
from tfserve.web.http.responses import CHECK_SENDER

log = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
"""Most requests are answered sooner, and cost nothing more."""
SESSION_VALID_S = 5.0
"""A session that was valid is not read from the database again for this time."""
MAX_SESSIONS = 1000


LASTING = "tfserve.lasting_request"
"""The key of a scope for its `LastingRequest`."""


class LastingRequest:
    """`receive` and `send` of a request. After `require_sender`, they call `check`, which raises `TokenEnded`.

    Before the response has begun, the error becomes the response. Afterwards, the connection is closed, which the
    application notices as if the client had left. `watch` is called for a response in several pieces, with what ends
    it: it may have nothing to send for a long time.
    """

    __slots__ = (
        "_check", "_checked_at", "_has_begun", "_is_ended", "_is_required", "_is_watched", "_receive", "_scope",
        "_send", "_unwatch", "_watch",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        check: Callable[[], Awaitable[None]],
        watch: Callable[[Callable[[], None]], None],
        unwatch: Callable[[Callable[[], None]], None],
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._check = check
        self._watch = watch
        self._unwatch = unwatch
        self._is_required = self._has_begun = self._is_watched = self._is_ended = False
        self._checked_at = time.monotonic()

    def require_sender(self) -> None:
        """The request needs a token or session. For most pages, only Django decides that."""
        self._is_required = True
        self._scope[CHECK_SENDER] = self.check

    def over(self) -> None:
        """The application has returned. An error that it raised is sent in any case."""
        self._is_required = False
        self._scope.pop(CHECK_SENDER, None)
        self._scope.pop(LASTING, None)
        if self._is_watched:
            self._unwatch(self.end)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and self._is_required and not await self._may_go_on():
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self._is_required:
            if not await self._may_go_on():
                return
            if message.get("more_body") and not self._is_watched:
                self._is_watched = True
                self._watch(self.end)
                if self._is_ended:
                    return
        if message["type"] == "http.response.start":
            self._has_begun = True
        await self._send(message)

    async def check(self) -> None:
        """Does nothing within a second after the beginning or the last check."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = now
            await self._check()

    def end(self) -> None:
        """Closes the connection of a response that has begun."""
        if self._is_ended:
            return
        self._is_ended = True
        path = self._scope["path"][:200]
        log.info(
            "%s %r ended in the middle of its response: its token or session has ended", self._scope["method"], path
        )
        connection: Any = self._scope.get(CONNECTION) or self._scope.get(HIDDEN_CONNECTION)
        if connection is not None:
            connection.transport.close()

    async def _may_go_on(self) -> bool:
        """Raises `TokenEnded` before the response has begun."""
        if not self._is_ended:
            try:
                await self.check()
            except TokenEnded:
                if not self._has_begun:
                    raise
                self.end()
        return not self._is_ended


class LastingSessions:
    """Whether the sessions of requests that last are still valid: some seconds later at most, and one read for all
    requests of a session.
    """

    def __init__(self, session_of: Callable[[Scope], Awaitable[object | None]]) -> None:
        self._session_of = session_of
        self._valid_at: dict[bytes, float] = {}

    async def check(self, scope: Scope) -> None:
        """Raises `TokenEnded`. What can't be read is taken for valid, since it was at the beginning."""
        cookie = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        now = time.monotonic()
        if now - self._valid_at.get(cookie, -SESSION_VALID_S) < SESSION_VALID_S:
            return
        try:
            # As a read: the CSRF token of the request was checked when it began, and may be in its body.
            is_valid = await self._session_of({**scope, "method": "GET"}) is not None
        except DatabaseUnavailable:
            is_valid = True
        if not is_valid:
            raise TokenEnded("The session has ended while this request was running. Log in again.")
        if len(self._valid_at) >= MAX_SESSIONS:
            self._valid_at.clear()
        self._valid_at[cookie] = now
