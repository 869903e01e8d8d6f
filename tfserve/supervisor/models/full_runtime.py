"""TensorFlow next to a faster runtime: starts when a request needs it, and ends when none has for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tfserve.errors import Unavailable
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.idleness import until_idle
from tfserve.supervisor.models.replicas import Replica
from tfserve.supervisor.processes.worker import WorkerDied

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet

FULL_IDLE_S = 300.0
"""TensorFlow ends when no request has needed it for this time."""


class FullModel:
    """The extra process with all of the active deployment, for what the faster runtime does not compute."""

    def __init__(self, replica_set: ReplicaSet) -> None:
        self.starting: asyncio.Task[None] | None = None
        self._set = replica_set

    async def replica(self, deployment: Deployment) -> Replica | None:
        """Returns the process when it has started. Raises the error that the worker replies with, or `Unavailable`."""
        if deployment.full is None or not deployment.full.alive:
            starting = self.starting or self._begin(deployment)
            await asyncio.wait([starting])
            if starting.cancelled():
                raise Unavailable(
                    "The model was changed while TensorFlow was started for this. Send the request again."
                )
            starting.result()
        return deployment.full

    def _begin(self, deployment: Deployment) -> asyncio.Task[None]:
        self.starting = asyncio.get_running_loop().create_task(self._start(deployment))
        self.starting.add_done_callback(self._ended)  # also called if it is cancelled before its first step
        return self.starting

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.starting = None
        if not task.cancelled():
            task.exception()  # those who wait for it get it, if there still are any

    async def _start(self, deployment: Deployment) -> None:
        try:
            deployment.full = await self._set.load_in_full(deployment)
        except WorkerDied as death:
            raise Unavailable(f"TensorFlow could not be started for this: {death}.") from None
        await self._set.announce()
        self._set.background.start(self._end_when_idle(deployment, deployment.full))

    async def _end_when_idle(self, deployment: Deployment, full: Replica) -> None:
        await until_idle(lambda: [full] if full.alive and self._set.active is deployment else [], FULL_IDLE_S)
        if self._set.active is deployment and deployment.full is full:
            deployment.full = None
            await self._set.announce()
            if full.alive:
                self._set.retire(deployment, [full])
