"""Puts a model that is not used to sleep: its processes end, and the next request starts them again."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tfserve.db import writes
from tfserve.db.models import Deployment as Row
from tfserve.errors import TFserveError
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.idleness import idle_s, until_idle

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet


def idle_after_s(deployment: Deployment, default_s: float) -> float:
    """After how many seconds without a prediction it sleeps; 0 for never.

    A model that keeps values from one request to the next would lose them, so the server's default is not for it.
    """
    own_s = deployment.options.idle_after_s
    if own_s is not msgspec.UNSET:
        return own_s
    return 0.0 if deployment.keeps_state else default_s


def may_make_room(deployment: Deployment) -> bool:
    """Whether it may be put to sleep for the memory of others, although it is not idle for long."""
    own_s = deployment.options.idle_after_s
    return not deployment.keeps_state if own_s is msgspec.UNSET else own_s > 0


class Sleep:
    """Puts the active deployment to sleep: when it is idle for as long as it may, or to make room for others."""

    def __init__(self, replica_set: ReplicaSet, *, journal: Journal, changed: Signal, default_s: float) -> None:
        self._set = replica_set
        self._changed = changed
        self._journal = journal
        self._default_s = default_s
        self._timer: asyncio.Task[None] | None = None

    def begin(self, deployment: Deployment) -> None:
        """From now on, this deployment sleeps when it is idle."""
        self.cancel()
        limit_s = idle_after_s(deployment, self._default_s)
        if limit_s:
            self._timer = asyncio.get_running_loop().create_task(self._watch(deployment, limit_s))

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def put_to_sleep(self) -> bool:
        """Ends the processes when they have no more requests. False if they are needed."""
        # What waits for it may be cancelled, but it is not left half done.
        return await asyncio.shield(self._set.background.start(self._put_to_sleep()))

    async def _put_to_sleep(self) -> bool:
        async with self._set.changing:
            deployment = self._set.active
            if deployment is None or not self._can_sleep(deployment):
                return False
            leaving, deployment.replicas, deployment.full = deployment.all_living, [], None
            deployment.state, deployment.reason = Row.State.SLEEPING, ""
            # In one step for each web process: requests in flight are completed, and the next one wakes it.
            await self._set.announce()
            self._set.retire(deployment, leaving)
        self._changed.fire()
        self._set.background.start(self.record(deployment))
        return True

    async def record(self, deployment: Deployment) -> None:
        """Records whether it sleeps. Without the record, the next start of the server loads the model."""
        asleep = msgspec.to_builtins(deployment.asleep()) if deployment.is_asleep else None
        with contextlib.suppress(TFserveError):
            await self._journal.change(partial(writes.set_deployment_asleep, deployment.id, asleep))

    async def _watch(self, deployment: Deployment, limit_s: float) -> None:
        """Ends when it sleeps, and when all its processes have died: then it is restored, and watched again."""
        while await until_idle(lambda: deployment.all_living if self._set.active is deployment else [], limit_s):
            if await self.put_to_sleep():
                return
            await asyncio.sleep(limit_s)  # something else needs it, such as the comparison of runtimes

    def _can_sleep(self, deployment: Deployment) -> bool:
        return deployment.state == Row.State.ACTIVE and bool(deployment.living) and not self._set.is_busy

    # --- for AwakeModels

    @property
    def is_awake(self) -> bool:
        """Whether the active deployment has processes, or starts them."""
        return self._set.active is not None and (bool(self._set.active.living) or self._set.is_starting)

    @property
    def may_make_room(self) -> bool:
        """Whether the active deployment could sleep now."""
        active = self._set.active
        return active is not None and self._can_sleep(active) and may_make_room(active)

    async def idle_s(self) -> float:
        """Seconds since the last prediction."""
        return await idle_s(self._set.active.all_living if self._set.active is not None else ())

    async def make_room(self) -> bool:
        """Sleeps, and returns when the memory is released; false if the processes are needed."""
        deployment = self._set.active
        if deployment is None or not await self.put_to_sleep():
            return False
        self.cancel()
        if deployment.retiring:
            await asyncio.wait(deployment.retiring)
        return True
