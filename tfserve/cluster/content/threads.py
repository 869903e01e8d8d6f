"""Threads for file I/O, which must not block an event loop, and for locks between processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_files = ThreadPoolExecutor(4, "content")
#: apart, because a thread may wait for a lock as long as another process copies files
_locks = ThreadPoolExecutor(64, "content-lock")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.wrap_future(_files.submit(function, *args, **kwargs))


async def whole_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, but it does not return while the function runs, even if it is cancelled.

    For changes to files that are removed after a cancellation.
    """
    work = _files.submit(function, *args, **kwargs)
    done = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        work.cancel()  # if it has not begun
        await asyncio.wait([done])
        if not done.cancelled():
            done.exception()  # which is not of interest now
        raise


@asynccontextmanager
async def locked(file: Path) -> AsyncIterator[int]:
    """Holds the lock of a file against all other holders, in this process and in others."""
    waiting = _locks.submit(_lock, file)
    try:
        descriptor = await asyncio.shield(asyncio.wrap_future(waiting))
    except asyncio.CancelledError:
        waiting.add_done_callback(_close)
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(file: Path) -> int:
    while True:
        descriptor = open_lock(file)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_current(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_lock(file: Path) -> int:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def is_current(descriptor: int, file: Path) -> bool:
    """Whether an opened lock file is still the one with this name: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def is_held(file: Path) -> bool:
    """Whether a process holds the lock of an existing file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _close(waiting: Future[int]) -> None:
    if not waiting.cancelled() and waiting.exception() is None:
        os.close(waiting.result())
