"""Two ends of a connection that a test can break."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tfserve.cluster.content.digests import Digests
from tfserve.cluster.content.scan import Found, scan
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import BlobParts, Message, ReadBlobs

Handler = Callable[[Any], Awaitable[Any]]


async def connected(ours: Handler | None, theirs: Handler | None) -> tuple[Connection, Connection]:
    one, other = socket.socketpair()
    return await Connection.open(one, ours), await Connection.open(other, theirs)


class Server:
    """Serves blobs, counts what it sends, and may change or break what it is about to send."""

    def __init__(self, read: Callable[[ReadBlobs], Awaitable[BlobParts]]) -> None:
        self.requests = 0
        self.sent_bytes = 0
        self.before: Callable[[int], None] | None = None
        self.change: Callable[[bytes], bytes] = lambda data: data
        self._read = read

    async def handle(self, message: Message) -> BlobParts:
        assert isinstance(message, ReadBlobs)
        self.requests += 1
        if self.before is not None:
            self.before(self.requests)
        await asyncio.sleep(0)
        parts = await self._read(message)
        self.sent_bytes += sum(map(len, parts.data))
        return BlobParts(data=[self.change(each) for each in parts.data])


def scanned(root: Path, records: Path | None = None, **options: Any) -> list[Found]:
    """As a process that ends afterwards."""
    with contextlib.closing(Digests(records)) as digests:
        return scan(root, digests, **options)
