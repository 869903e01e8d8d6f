"""Ends connections whose clients are still sending, so that they get their response.

If a connection is closed while data is unread, the client's system gets a reset, and discards the response that has
arrived before it. So an error that ends a request before its body has arrived would never be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

IDLE_S = 5.0
"""A client that sends nothing for this time has given up."""
MOST_S = 30.0


class LingeringTransport:
    """A transport as uvicorn uses it. `close` within a request first reads, and discards, what the client sends."""

    def __init__(self, transport: Any, *, is_within_request: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_within_request = is_within_request
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0
        self._is_idle = True
        self.is_lingering = False
        self.write = transport.write
        self.writelines = transport.writelines
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.abort = transport.close
        """Closes it at once."""

    def is_closing(self) -> bool:
        return self.is_lingering or bool(self._transport.is_closing())

    def close(self) -> None:
        """Called again, it closes the connection at once."""
        if self.is_closing() or not self._is_within_request():
            self._transport.close()
            return
        self.is_lingering = True
        if self._transport.can_write_eof():  # not with TLS, whose clients see the end by the length of the response
            self._transport.write_eof()
        self._ends_at = asyncio.get_running_loop().time() + MOST_S
        self._check()

    def discard(self) -> None:
        """More data has arrived."""
        self._is_idle = False

    def closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        if (self._timer is not None and self._is_idle) or loop.time() >= self._ends_at:
            self._transport.close()
            return
        self._is_idle = True
        self._timer = loop.call_later(IDLE_S, self._check)
