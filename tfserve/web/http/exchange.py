"""A request and its response on the fast path: from the parser to the prediction and back, without ASGI."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from starlette.types import Scope

from tfserve.web.http.eager_call import EagerCall
from tfserve.web.http.response_bytes import CLOSE, lines

if TYPE_CHECKING:
    from tfserve.web.http.protocol import HttpProtocol

MAX_BODY_BYTES = 256 * 1024
"""Larger requests take the path through ASGI, which costs little compared to reading them."""

UNUSUAL = frozenset({
    b"content-encoding", b"expect", b"origin", b"prefer", b"sec-fetch-site", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Headers whose requests take the path through ASGI."""
KEEP_ALIVE = b"keep-alive"
CLOSE_LINE = lines([CLOSE])


class RequestContext(NamedTuple):
    """What a response may depend on besides path and body: the headers by their names, and the query string."""

    headers: Mapping[bytes, bytes]
    query: bytes = b""


class RequestHead:
    """The head of a request on the fast path. Requests of a connection that begin with the same bytes share it."""

    __slots__ = ("by_name", "kept", "scope")

    def __init__(self, scope: Scope, by_name: Mapping[bytes, bytes]) -> None:
        self.scope = scope
        self.by_name = by_name
        self.kept: Any = None
        """What the application has derived from the head alone."""

    @property
    def path(self) -> str:
        return str(self.scope["path"])


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete response. `headers` are lines, to which that of the length is added when it is sent."""

    status: int
    headers: bytes
    body: bytes
    closes: bool = False
    """Whether the headers say that the connection is closed."""


class FastApp(Protocol):
    """Responds to some requests without ASGI, with exactly what the ASGI application would respond."""

    def path(self, url: bytes) -> str | None:
        """The path of a POST request to this URL, if this application may be able to respond to it."""

    def admits(self, exchange: Exchange) -> bool:
        """Whether `respond` may be called. Otherwise the request takes the path through ASGI."""

    def respond(self, exchange: Exchange) -> Coroutine[Any, Any, Response | None]:
        """The response; None for a client that is gone. Raises nothing."""


class Exchange:
    """One request after the other of a connection. In uvicorn's protocol, it takes the place of its cycle.

    `on_lost` is called when the client closes the connection before it has the response.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._call: EagerCall[Response | None] | None = None
        self.head: RequestHead | None = None
        self.scope: Scope = {}
        self.headers: Mapping[bytes, bytes] = {}
        self.body = b""
        self.admitted: Any = None
        """What the application keeps of the request between `admits` and `respond`."""
        self.keep_alive = True
        self.response_complete = True
        self.disconnected = False
        self.more_body = False
        self.on_lost: Callable[[], object] | None = None

    @property
    def message_event(self) -> Exchange:
        """What uvicorn sets to wake an application that waits for the body or the end of the client."""
        return self

    def set(self) -> None:
        """Nothing waits for it."""

    def begin(self, head: RequestHead) -> None:
        """The head of a request has arrived."""
        self.head = head
        self.scope = head.scope
        self.headers = head.by_name
        self.body = b""
        self.keep_alive = True
        self.response_complete = False

    def start(self, app: FastApp) -> None:
        """The request has arrived."""
        close = self._protocol.transport.close
        self._call = EagerCall(app.respond(self), copy_context(), done=self._done, failed=close)
        self._protocol.tasks.add(self)  # type: ignore[arg-type]  # what uvicorn waits for and cancels when it stops
        self._call.start()

    def cancel(self, **_: str) -> None:
        """uvicorn cancels what is still running a few seconds after it should have stopped."""
        if self._call is not None:
            self._call.cancel()

    def lost(self) -> None:
        """The client closed the connection."""
        self.disconnected = True
        if self.on_lost is not None:
            self.on_lost()

    def _done(self, response: Response | None) -> None:
        self._call = self.on_lost = self.admitted = None
        self._protocol.tasks.discard(self)
        self.response_complete = True
        if response is None or self.disconnected:
            return
        headers = response.headers
        if response.closes:
            self.keep_alive = False
        elif not self.keep_alive:
            headers += CLOSE_LINE
        self._protocol.send(response.status, headers, response.body, keep_alive=self.keep_alive)
