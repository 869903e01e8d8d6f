"""Work on large requests and responses, done in a thread, so that it does not block the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tfserve.tensors.specs import Array

T = TypeVar("T")

LARGE_BYTES = 1024 * 1024
"""Larger bodies are read in a thread."""

DENSE_BYTES = 16 * 1024
DENSE_MARKS = 4096
"""Smaller bodies too, if they have more than `DENSE_BYTES` and more brackets, braces and quotes than this: each becomes
an object."""

MANY_NUMBERS = 256 * 1024
MANY_STRINGS = 4096
"""Larger arrays are written in a thread."""

#: One thread: more would only compete for the GIL, and each may use many times the memory of its body.
_thread = ThreadPoolExecutor(1, thread_name_prefix="large")


def is_heavy(body: bytes) -> bool:
    """Whether decoding the JSON in a body may take long."""
    if len(body) <= DENSE_BYTES:
        return False
    return len(body) > LARGE_BYTES or body.count(b'"') + body.count(b"[") + body.count(b"{") > DENSE_MARKS


def are_heavy(arrays: Iterable[Array]) -> bool:
    """Whether encoding arrays as JSON, or joining their strings, may take long."""
    for array in arrays:
        size = array.size
        if size > MANY_STRINGS and (size > MANY_NUMBERS or array.dtype == object):
            return True
    return False


async def offloaded(work: Callable[[], T]) -> T:
    """The result of the work, which runs in the thread after all earlier work. Raises what the work raises."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_thread, context.run, work)


async def offloaded_if_heavy(body: bytes, work: Callable[[], T]) -> T:
    """The result of the work on a body."""
    return await offloaded(work) if is_heavy(body) else work()
