"""Copies missing files from the other end of a connection into a store of blobs.

Small files travel many at a time, large ones in pieces, several at once. `ask` may lose its connection, open another
one and repeat the request: each response is the same. A process that ends continues later with what has arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from tfserve.cluster.content.blobs import Blobs, Partial
from tfserve.cluster.content.errors import DamagedContent
from tfserve.cluster.content.threads import in_thread, whole_in_thread
from tfserve.ipc.messages import BlobPart, BlobParts, ContentEntry, ReadBlobs

CHUNK_BYTES = 1024 * 1024
BATCH_FILES = 256
IN_FLIGHT = 4
"""Requests at a time: enough for a distant head, and at most 4 MiB in memory."""
FILES_AT_A_TIME = 4

Ask = Callable[[ReadBlobs], Awaitable[BlobParts]]


async def fetch(
    ask: Ask, entries: Iterable[ContentEntry], blobs: Blobs, on_blob: Callable[[ContentEntry], None] | None = None
) -> int:
    """Returns how many bytes were received. `on_blob` is called, in a thread, when a content has arrived.

    Raises what `ask` raises, `DamagedContent` and `OSError`.
    """
    missing = await in_thread(blobs.missing, list(entries))
    transfer = _Transfer(ask, blobs, on_blob or (lambda _: None))
    jobs = [transfer.fetch_small(batch) for batch in _batches(missing)]
    jobs += [transfer.fetch_large(each) for each in missing if each.size > CHUNK_BYTES]
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return transfer.received


class _Transfer:
    def __init__(self, ask: Ask, blobs: Blobs, on_blob: Callable[[ContentEntry], None]) -> None:
        self.received = 0
        self._ask = ask
        self._blobs = blobs
        self._on_blob = on_blob
        self._requests = asyncio.Semaphore(IN_FLIGHT)
        self._files = asyncio.Semaphore(FILES_AT_A_TIME)

    async def fetch_small(self, batch: Sequence[ContentEntry]) -> None:
        async with self._files:
            data = await self._read([BlobPart(each.digest, 0, each.size) for each in batch])
            await whole_in_thread(self._keep, list(zip(batch, data, strict=True)))

    async def fetch_large(self, entry: ContentEntry) -> None:
        async with self._files, self._blobs.partial(entry) as partial:
            if not await whole_in_thread(self._blobs.has, entry):
                await self._receive(entry, partial)
            else:  # another process has fetched it meanwhile
                await whole_in_thread(partial.drop)
        await whole_in_thread(self._on_blob, entry)

    async def _receive(self, entry: ContentEntry, partial: Partial) -> None:
        offset = await whole_in_thread(partial.resume)
        await self._write_from(offset, entry, partial)
        try:
            await whole_in_thread(partial.finish)
        except DamagedContent:
            await whole_in_thread(partial.restart)
            if not offset:
                raise
            await self._write_from(0, entry, partial)
            await whole_in_thread(partial.finish)

    async def _write_from(self, offset: int, entry: ContentEntry, partial: Partial) -> None:
        """Requests several pieces at once, and writes them in order."""
        pending: deque[asyncio.Task[list[bytes]]] = deque()
        try:
            while offset < entry.size or pending:
                while offset < entry.size and len(pending) < IN_FLIGHT:
                    part = BlobPart(entry.digest, offset, min(CHUNK_BYTES, entry.size - offset))
                    pending.append(asyncio.create_task(self._read([part])))
                    offset += part.size
                (data,) = await pending[0]
                pending.popleft()
                await whole_in_thread(partial.write, data)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _read(self, parts: list[BlobPart]) -> list[bytes]:
        async with self._requests:
            data = (await self._ask(ReadBlobs(parts=parts))).data
        if [len(each) for each in data] != [part.size for part in parts]:
            raise DamagedContent("A response is truncated: it has fewer bytes than requested. Try again.")
        self.received += sum(map(len, data))
        return data

    def _keep(self, received: list[tuple[ContentEntry, bytes]]) -> None:
        for entry, data in received:
            self._blobs.put(entry, data)
            self._on_blob(entry)


def _batches(missing: Sequence[ContentEntry]) -> Iterator[list[ContentEntry]]:
    """Small files in groups of about a MiB."""
    batch: list[ContentEntry] = []
    size = 0
    for each in missing:
        if each.size > CHUNK_BYTES:
            continue
        if batch and (size + each.size > CHUNK_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.size
    if batch:
        yield batch


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
