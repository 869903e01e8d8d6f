"""Tells the operator's own server about training tasks: the JSON of a task whenever its state changes.

What was delivered is recorded, so that the next start of the server tells what this one could not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

TRIES = 8
FIRST_DELAY_S = 1.0
TIMEOUT_S = 10.0

Delivered = Callable[[str, str], Awaitable[None]]
"""Records the id of a task and the state that the operator's server knows by now."""


class Callbacks:
    """Posts in order, one after the other; a server that does not answer is asked again, later and later."""

    def __init__(self, url: str, delivered: Delivered) -> None:
        self._url = url
        self._delivered = delivered
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        #: the last state queued of each task, until it is delivered
        self._queued: dict[str, str] = {}
        self._task = asyncio.get_running_loop().create_task(self._work()) if url else None

    def tell(self, task: dict[str, Any], told: str | None) -> None:
        """`told` is what is recorded as delivered; a state is not told twice."""
        task_id, state = task["taskId"], task["state"]
        if self._task is not None and self._queued.get(task_id, told) != state:
            self._queued[task_id] = state
            self._queue.put_nowait(task)

    async def close(self) -> None:
        """At once: what is not delivered is told by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        import httpx  # only a server with a callback needs it

        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            while True:
                task = await self._queue.get()
                if await self._post(client, task):
                    await self._delivered(task["taskId"], task["state"])
                if self._queued.get(task["taskId"]) == task["state"]:
                    del self._queued[task["taskId"]]

    async def _post(self, client: Any, task: dict[str, Any]) -> bool:
        """Whether it was delivered."""
        import httpx

        for attempt in range(TRIES):
            try:
                (await client.post(self._url, json=task)).raise_for_status()
                return True
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__} {error}"
                log.warning("the callback for task %s failed (try %s): %s", task["taskId"], attempt + 1, problem)
                await asyncio.sleep(FIRST_DELAY_S * 2**attempt)
        log.error("the callback for task %s was given up until the next start", task["taskId"])
        return False
