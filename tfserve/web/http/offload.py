"""Work on large bodies and answers, done in a thread, so that nobody else waits for it."""

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
"""So are smaller ones, beyond `DENSE_BYTES`, with more brackets, braces and quotes: they become many objects."""

MANY_NUMBERS = 256 * 1024
MANY_STRINGS = 4096
"""Larger arrays are written in a thread."""

#: One thread: more would only compete for the interpreter's lock, and each may hold many times its body's memory.
_thread = ThreadPoolExecutor(1, thread_name_prefix="large")


def is_heavy(body: bytes) -> bool:
    """Whether it may take long to read the JSON in a body."""
    if len(body) <= DENSE_BYTES:
        return False
    return len(body) > LARGE_BYTES or body.count(b'"') + body.count(b"[") + body.count(b"{") > DENSE_MARKS


def are_heavy(arrays: Iterable[Array]) -> bool:
    """Whether it may take long to write arrays as JSON, or to join their strings."""
    return any(array.size > (MANY_STRINGS if array.dtype == object else MANY_NUMBERS) for array in arrays)


async def offloaded(work: Callable[[], T]) -> T:
    """The result of work that takes long, done when the work before it is; raises what it raises."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_thread, context.run, work)
