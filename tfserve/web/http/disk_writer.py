"""Writes a file in a thread while the event loop receives the next piece, with little memory at any time."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TypeVar

from tfserve.errors import OutOfSpace
from tfserve.uploads.store import check_disk

T = TypeVar("T")

PIECE_BYTES = 2**20
"""Pieces are joined up to this size before they are written."""

_pool = ThreadPoolExecutor(4, thread_name_prefix="disk")
"""Threads of their own, so that a slow disk does not hold up what other threads do."""


async def on_disk(work: Callable[[], T]) -> T:
    """The result of work on the disk, which runs in a thread and knows the sender of the request.

    Raises `OutOfSpace` for errors of the system.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(_pool, copy_context().run, work)
    except OSError as error:
        raise OutOfSpace(cause=error.strerror or str(error)) from error


class DiskWriter:
    """A file that is open for writing. At most two pieces are in memory: one is written, the next one is collected."""

    def __init__(self, descriptor: int, folder: Path) -> None:
        self.size = 0
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._folder = folder
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._collected = 0
        self._writing: Future[None] | None = None

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._digest.hexdigest()

    async def write(self, piece: bytes) -> None:
        """Raises `OutOfSpace`."""
        self._pieces.append(piece)
        self._collected += len(piece)
        if self._collected >= PIECE_BYTES:
            await self._begin()

    async def finish(self, *, sync: bool = False) -> None:
        """Returns when everything is written; with `sync`, also to the disk itself. Raises `OutOfSpace`."""
        await self._begin()
        await self._written()
        if sync:
            await on_disk(partial(os.fsync, self._file.fileno()))

    def close(self) -> None:
        """Closes the file, after the write that may be running."""
        if self._writing is None or self._writing.done():
            self._file.close()
        else:
            self._writing.add_done_callback(lambda _: self._file.close())

    async def _begin(self) -> None:
        await self._written()
        content, self._pieces, self._collected = b"".join(self._pieces), [], 0
        if content:
            self._writing = _pool.submit(self._store, content)

    async def _written(self) -> None:
        if self._writing is not None:
            try:
                await asyncio.wrap_future(self._writing)
            except OSError as error:
                raise OutOfSpace(cause=error.strerror or str(error)) from error

    def _store(self, content: bytes) -> None:
        check_disk(self._folder)
        view = memoryview(content)
        while view:
            written = self._file.write(view)
            assert written is not None  # the file blocks
            self.size += written
            view = view[written:]
        self._digest.update(content)


@asynccontextmanager
async def disk_writer(path: Path, *, append: bool = False) -> AsyncIterator[DiskWriter]:
    """A writer of a new file, or of one to append to. What has arrived is written even if the client goes away."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_EXCL)
    async with writing(await on_disk(lambda: os.open(path, flags, 0o600)), path.parent) as writer:
        yield writer


@asynccontextmanager
async def writing(descriptor: int, folder: Path) -> AsyncIterator[DiskWriter]:
    """A writer for an open file, which it closes. `folder` is any folder on the same disk."""
    writer = DiskWriter(descriptor, folder)
    try:
        try:
            yield writer
        finally:
            await writer.finish()
    finally:
        writer.close()
