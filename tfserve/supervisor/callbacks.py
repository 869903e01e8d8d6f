"""Tells the operator's own server about training tasks: the JSON of a task whenever its state changes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)

TRIES = 8
FIRST_DELAY_S = 1.0
TIMEOUT_S = 10.0


class Callbacks:
    """Posts in order, one after the other; a server that does not answer is asked again, later and later."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._work()) if url else None

    def tell(self, task: dict[str, Any]) -> None:
        if self._task is not None:
            self._queue.put_nowait(task)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        import httpx  # only a server with a callback needs it

        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            while True:
                await self._post(client, await self._queue.get())

    async def _post(self, client: Any, task: dict[str, Any]) -> None:
        import httpx

        for attempt in range(TRIES):
            try:
                (await client.post(self._url, json=task)).raise_for_status()
                return
            except httpx.HTTPError as error:
                log.warning("the callback for task %s failed (try %s): %s", task["taskId"], attempt + 1, error)
                await asyncio.sleep(FIRST_DELAY_S * 2**attempt)
        log.error("the callback for task %s was given up", task["taskId"])
