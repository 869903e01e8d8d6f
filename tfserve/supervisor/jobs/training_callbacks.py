"""Reports training tasks to the operator's own server: the JSON of a task whenever its state changes.

Delivered states are recorded, so that the next start of the server delivers the rest.
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
"""Records the id of a task and its last delivered state."""


class Callbacks:
    """Posts one report after the other, in order, and retries with increasing delays."""

    def __init__(self, url: str, delivered: Delivered) -> None:
        self._url = url
        self._delivered = delivered
        #: tasks, each with the trace that it belongs to
        self._queue: asyncio.Queue[tuple[dict[str, Any], str]] = asyncio.Queue()
        #: the last state queued of each task, until it is delivered
        self._queued: dict[str, str] = {}
        self._task = asyncio.get_running_loop().create_task(self._work()) if url else None

    def report(self, task: dict[str, Any], delivered: str | None, traceparent: str = "") -> None:
        """`delivered` is the state that is recorded as delivered; a state is not reported twice."""
        task_id, state = task["taskId"], task["state"]
        if self._task is not None and self._queued.get(task_id, delivered) != state:
            self._queued[task_id] = state
            self._queue.put_nowait((task, traceparent))

    async def close(self) -> None:
        """Stops at once: the next start delivers the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        import httpx  # only a server with a callback needs it

        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            while True:
                task, traceparent = await self._queue.get()
                if await self._post(client, task, {"traceparent": traceparent} if traceparent else {}):
                    await self._delivered(task["taskId"], task["state"])
                if self._queued.get(task["taskId"]) == task["state"]:
                    del self._queued[task["taskId"]]

    async def _post(self, client: Any, task: dict[str, Any], headers: dict[str, str]) -> bool:
        """Whether it was delivered."""
        import httpx

        for attempt in range(TRIES):
            try:
                (await client.post(self._url, json=task, headers=headers)).raise_for_status()
                return True
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__} {error}"
                log.warning("the callback for task %s failed (try %s): %s", task["taskId"], attempt + 1, problem)
                await asyncio.sleep(FIRST_DELAY_S * 2**attempt)
        log.error("the callback for task %s was given up until the next start", task["taskId"])
        return False
