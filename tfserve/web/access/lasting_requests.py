"""Requests that last: a token or session that ends also ends the requests that it has begun."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Send

CHECK_EVERY_S = 1.0
"""Most requests are answered sooner, and cost nothing more."""


class LastingRequest:
    """`receive` and `send` of a request. They call `check`, which raises an error, while it lasts."""

    __slots__ = ("_check", "_checked_at", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send, check: Callable[[], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._check = check
        self._checked_at = time.monotonic()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            await self.check()
        return message

    async def send(self, message: Message) -> None:
        await self.check()
        await self._send(message)

    async def check(self) -> None:
        """Does nothing within a second after the beginning or the last check."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = now
            await self._check()
