"""The line of a node to the head: opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tfserve import __version__, linux
from tfserve.cluster.connecting import connect
from tfserve.cluster.heads import Heads
from tfserve.cluster.identity import Identity
from tfserve.errors import Forbidden, TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import Message, NodeOpened, OpenNode, PingNode, ProcessUses

log = logging.getLogger(__name__)

AGAIN_S = 0.5
SILENCE_S = 6.0
"""The head pings every second. After this time without one, the connection is given up."""


class OlderHead(Forbidden):
    """The server at {address} was the head before another one took over (epoch {epoch}, but {seen} has been seen)."""


class HeadLine:
    """Keeps a connection to the head. `handler` answers the messages of the head, except for pings."""

    def __init__(
        self,
        identity: Identity,
        *,
        heads: Heads,
        name: str,
        address: str,
        handler: Handler,
        http: str = "",
        on_opened: Callable[[NodeOpened, Connection], None] = lambda _opened, _connection: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`address` is the node's own, `http` the URL of its APIs."""
        self.connection: Connection | None = None
        self.epoch = 0
        """The highest of a head that was seen."""
        self.problem = ""
        """Why it is not connected."""
        self._identity = identity
        self._heads = heads
        self._name = name
        self._address = address
        self._http = http
        self._handler = handler
        self._on_opened = on_opened
        self._on_lost = on_lost
        self._pinged_at = 0.0

    async def keep(self) -> None:
        """Connects again and again, until it is cancelled."""
        while True:
            try:
                connection, opened = await self._heads.first(self._open, lambda found: found[0].abort())
            except (TFserveError, ConnectionLost) as error:
                self._note(str(error) or "the head closed the connection")
            else:
                self._note("")
                self.connection = connection
                self._on_opened(opened, connection)
                await self._until_lost(connection)
                self.connection = None
                self._note("the connection to the head is lost")
                self._on_lost()
            await asyncio.sleep(AGAIN_S)

    async def _open(self, head: str) -> tuple[Connection, NodeOpened]:
        connection = await connect(head, self._identity, self._received)
        try:
            opened = await connection.ask(
                OpenNode(
                    name=self._name, address=self._address, head=head, heads=str(self._heads),
                    identity=str(self._identity.folder), version=__version__, epoch=self.epoch, http=self._http,
                )
            )  # fmt: skip
            if opened.epoch < self.epoch:
                raise OlderHead(address=head, epoch=opened.epoch, seen=self.epoch)
        except BaseException:
            connection.abort()
            raise
        self.epoch = opened.epoch
        return connection, opened

    async def _until_lost(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._pinged_at = loop.time()
        while not connection.lost.done():
            silent_s = loop.time() - self._pinged_at
            if silent_s >= SILENCE_S:
                connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, SILENCE_S - silent_s)):
                    await asyncio.shield(connection.lost)

    async def _received(self, message: Message) -> Any:
        if isinstance(message, PingNode):
            self._pinged_at = asyncio.get_running_loop().time()
            return ProcessUses(uses=dict(_uses(message.pids)))
        return await self._handler(message)

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("no connection to the head: %s", problem)
        elif self.problem and not problem:
            log.info("connected to the head")
        self.problem = problem


def _uses(pids: Iterable[int]) -> Iterator[tuple[int, linux.Use]]:
    for pid in pids:
        with contextlib.suppress(OSError):
            yield pid, linux.use_of(pid)
