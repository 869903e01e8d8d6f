"""The cluster port of the head: one TLS listener for everything that nodes send.

The first request on a connection says what it is, and decides what handles the rest. Without a certificate of the
cluster, only `Join` is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tfserve.cluster.identity import Authority, member_name
from tfserve.cluster.sockets import watched
from tfserve.errors import Forbidden, Invalid, Unauthenticated
from tfserve.ipc.connections import Connection, Handler
from tfserve.ipc.messages import Join, Message
from tfserve.supervisor.web_processes import listen

log = logging.getLogger(__name__)

STRANGER_FRAME_BYTES = 64 * 1024
FIRST_REQUEST_S = 10.0
"""A connection without a request after this time is closed."""

Opener = Callable[[Connection, str, Any], Awaitable[tuple[Any, Handler | None]]]
"""Gets a connection, the name in the certificate of its peer and the first request. Returns the response, and what
handles everything after it. Raises a `TFserveError` to refuse the connection."""


class NotAMember(Unauthenticated):
    """Only members of this cluster are answered here. Join it first: tfserve node HEAD:PORT --token TOKEN"""


class ClusterPort:
    """`openers` is the table of first requests."""

    def __init__(self, authority: Authority, host: str, port: int) -> None:
        self.openers: dict[type[Message], Opener] = {}
        self._authority = authority
        self._socket = watched(listen(host, port, 1)[0])
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    @property
    def number(self) -> int:
        return int(self._socket.getsockname()[1])

    async def begin(self) -> None:
        context = self._authority.server_context(admits_strangers=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, sock=self._socket, ssl=context)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    def _accepted(self) -> Connection:
        return _Accepted(self.openers, self._connections)


class _Accepted(Connection):
    """A connection of which only the first request is awaited."""

    def __init__(self, openers: dict[type[Message], Opener], connections: set[Connection]) -> None:
        super().__init__(self._first, limit_bytes=STRANGER_FRAME_BYTES)
        self._openers = openers
        self._connections = connections
        self._then: Handler | None = None
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)
        self.lost.add_done_callback(lambda _: self._connections.discard(self))
        asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self._close_unless_open)

    def _close_unless_open(self) -> None:
        if not self._is_open:
            self.abort()

    async def _first(self, message: Message) -> Any:
        if self._is_open:
            if self._then is None:
                raise Invalid(f"{type(message).__name__} is not expected on this connection")
            return await self._then(message)
        try:
            response, self._then = await self._open(message)
        except BaseException:
            asyncio.get_running_loop().call_soon(self.close)  # after the response that says why
            raise
        return response

    async def _open(self, message: Message) -> tuple[Any, Handler | None]:
        """Raises a `TFserveError` to refuse the connection."""
        name = member_name(self.about_peer("ssl_object").getpeercert())
        if name is None and not isinstance(message, Join):
            raise NotAMember
        opener = self._openers.get(type(message))
        if opener is None:
            raise Forbidden(f"{type(message).__name__} can't be the first request on a connection")
        self._is_open = True
        if name is not None:
            self.allow_large_frames()
        return await opener(self, name or "", message)
