"""TensorFlow beside a faster runtime: started when somebody needs it, ended when nobody has for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from tfserve.errors import TFserveError, Unavailable
from tfserve.ipc.messages import IdleSince
from tfserve.supervisor.models.loading import Loading
from tfserve.supervisor.models.replicas import Deployment, Replica
from tfserve.supervisor.processes.worker import WorkerDied

FULL_IDLE_S = 300.0
"""So long TensorFlow stays beside a faster runtime after it was last needed."""


class FullModel:
    """The process with all of the active deployment, for what the faster runtime does not compute."""

    def __init__(
        self, loading: Loading, *, is_active: Callable[[Deployment], bool], announce: Callable[[], Awaitable[None]],
        retire: Callable[[Deployment, Sequence[Replica]], None],
        in_background: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:  # fmt: skip
        self._loading = loading
        self._is_active = is_active
        self._announce = announce
        self._retire = retire
        self._in_background = in_background
        self.starting: asyncio.Task[None] | None = None

    async def replica(self, deployment: Deployment) -> Replica | None:
        """The process, once it is there. Raises what the worker says is wrong with the model, `Unavailable`."""
        if deployment.full is None or not deployment.full.alive:
            if self.starting is None:
                self.starting = asyncio.get_running_loop().create_task(self._start(deployment))
            await asyncio.shield(self.starting)
        return deployment.full

    async def _start(self, deployment: Deployment) -> None:
        try:
            deployment.full = await self._loading.load_in_full(deployment)
        except WorkerDied as death:
            raise Unavailable(f"TensorFlow could not be started for this: {death}.") from None
        finally:
            self.starting = None
        await self._announce()
        self._in_background(self._end_when_idle(deployment, deployment.full))

    async def _end_when_idle(self, deployment: Deployment, full: Replica) -> None:
        idle_s = 0.0
        while idle_s < FULL_IDLE_S and full.alive and self._is_active(deployment):
            await asyncio.wait([full.worker.child.ended], timeout=FULL_IDLE_S - idle_s)
            try:
                idle_s = await full.worker.ask(IdleSince())
            except (TFserveError, WorkerDied):
                break
        if self._is_active(deployment) and deployment.full is full:
            deployment.full = None
            await self._announce()
            if full.alive:
                self._retire(deployment, [full])
