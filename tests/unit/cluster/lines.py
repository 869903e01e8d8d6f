"""The other end of a transfer, which a test can disturb."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tfserve.cluster.content.digests import Digests
from tfserve.cluster.content.scan import ScannedEntry, scan
from tfserve.ipc.messages import BlobParts, ReadBlobs


class Server:
    """Serves blobs, counts what it sends, and may change or break what it is about to send."""

    def __init__(self, read: Callable[[ReadBlobs], Awaitable[BlobParts]]) -> None:
        self.sent_bytes = 0
        self.change: Callable[[bytes], bytes] = lambda data: data
        self._read = read

    async def handle(self, message: ReadBlobs) -> BlobParts:
        await asyncio.sleep(0)
        parts = await self._read(message)
        self.sent_bytes += sum(map(len, parts.data))
        return BlobParts(data=[self.change(each) for each in parts.data])


def scanned(root: Path, records: Path | None = None, **options: Any) -> list[ScannedEntry]:
    """As a process that ends afterwards."""
    with contextlib.closing(Digests(records)) as digests:
        return scan(root, digests, **options)
