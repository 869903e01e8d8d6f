"""The connection of a request, for the application that responds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.types import Scope

from tfserve.web.http.body_collector import BodyCollector
from tfserve.web.http.response_bytes import Header

CONNECTION = "tfserve.connection"
"""The key of the `HttpConnection` in a scope."""
HIDDEN_CONNECTION = "tfserve.hidden_connection"
"""The key instead, if every response has to go through `send`. The connection may only be closed then."""


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
