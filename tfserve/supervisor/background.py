"""Tasks that run in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundTasks:
    """Holds them until they end: the event loop itself does not, so they could be garbage-collected before."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def wait(self, timeout_s: float | None = None) -> set[asyncio.Task[Any]]:
        """Those that have not ended in this time."""
        return (await asyncio.wait(self._tasks, timeout=timeout_s))[1] if self._tasks else set()
