"""Changes how many processes a deployed model has: on request, and with autoscaling by its load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from tfserve.db import writes
from tfserve.errors import Conflict, TFserveError, Unavailable
from tfserve.ipc.messages import Autoscale, ModelOptions, ReadInFlight
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.models.changed_options import with_replicas
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.load_history import LoadHistory
from tfserve.supervisor.web_counters import in_flight

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet

log = logging.getLogger(__name__)

READ_EVERY_S = 1.0
"""How often web processes report what they wait for: an average has to be sampled."""
RETRY_S = 30.0
"""After this time, missing replicas that could not be started are started again."""


class ScalesByItself(Conflict):
    """Model {name!r} has {min} to {max} replicas by its load (autoscale), so the number can't be set. Change the \
limits with the field autoscale, or send "autoscale": false together with replicas for a fixed number."""


class Scaling:
    """Of the active deployment of one workspace."""

    def __init__(
        self, name: str, replica_set: ReplicaSet, *, journal: Journal, announcements: Announcements, changed: Signal,
        down_after_s: float,
    ) -> None:  # fmt: skip
        self._name = name
        self._set = replica_set
        self._journal = journal
        self._announcements = announcements
        self._changed = changed
        self._down_after_s = down_after_s
        self._following: asyncio.Task[None] | None = None

    # --- on request

    def options_for(
        self, replicas: int | None, autoscale: Autoscale | bool | msgspec.UnsetType = msgspec.UNSET
    ) -> ModelOptions:
        """The options with other numbers. Raises `NotFound`, `Invalid`, and `ScalesByItself` for a fixed number."""
        options = self._set.deployed().options
        limits = options.autoscale or None
        if replicas is not None and autoscale is msgspec.UNSET and limits is not None:
            raise ScalesByItself(name=self._name, min=limits.min, max=limits.max)
        return with_replicas(options, replicas, autoscale)

    async def set(self, options: ModelOptions) -> None:
        """Returns when its replicas serve; a sleeping model has them when it wakes.

        Raises `NotFound`, `Unavailable`.
        """
        async with self._set.changing:
            active = self._set.deployed()
            await self._apply(active, replace(active.options, replicas=options.replicas, autoscale=options.autoscale))
        self.begin(active)
        while not (active := self._set.deployed()).is_asleep and len(active.living) < active.options.replicas:
            if not self._set.is_starting or not await self._set.restored():
                reason = (active.reason or "no more could be started").rstrip(".")
                raise Unavailable(f"{len(active.living)} of {active.options.replicas} replicas serve: {reason}.")
        self._changed.fire()

    async def set_idle_after(self, idle_after_s: float | msgspec.UnsetType) -> None:
        """When the active deployment sleeps, from now on. Its processes are not affected. Raises `NotFound`."""
        async with self._set.changing:
            active = self._set.deployed()
            await self._set_options(active, replace(active.options, idle_after_s=idle_after_s))
            await self._set.announce()
            if not active.is_asleep:
                self._set.sleep.begin(active)

    async def _apply(self, deployment: Deployment, options: ModelOptions) -> None:
        await self._set_options(deployment, options)
        self._set.trim(deployment)
        await self._set.announce()
        if len(deployment.living) < options.replicas and not deployment.is_asleep:
            self._set.restore(deployment)

    async def _set_options(self, deployment: Deployment, options: ModelOptions) -> None:
        deployment.options = options
        await self._journal.change(partial(writes.set_deployment_options, deployment.id, msgspec.to_builtins(options)))

    # --- by the load

    def begin(self, deployment: Deployment) -> None:
        """From now on, the number of replicas follows the load, if the deployment wants that."""
        if deployment.options.autoscale is not msgspec.UNSET and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(deployment))
            self._following.add_done_callback(self._on_end)

    def cancel(self) -> None:
        if self._following is not None:
            self._following.cancel()
            self._following = None

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if self._following is task:
            self._following = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the autoscaling of %s ended", self._name, exc_info=error)

    async def _follow(self, deployment: Deployment) -> None:
        """Ends when the deployment is replaced, sleeps, or has a fixed number of replicas again."""
        history, retried_at = LoadHistory(self._down_after_s), time.monotonic()
        while self._follows(deployment):
            await asyncio.sleep(READ_EVERY_S)
            history.add(time.monotonic(), await self._in_flight(deployment))
            if not deployment.living or (limits := deployment.options.autoscale or None) is None:
                continue
            current = deployment.options.replicas
            replicas = history.replicas(limits, current)
            if replicas < current or (replicas > current and not self._set.is_starting):
                await self._change(deployment, replicas)
            elif len(deployment.living) < replicas and time.monotonic() > retried_at + RETRY_S:
                retried_at = time.monotonic()
                self._set.restore(deployment)

    def _follows(self, deployment: Deployment) -> bool:
        return (
            self._set.active is deployment and not deployment.is_asleep
            and deployment.options.autoscale is not msgspec.UNSET
        )  # fmt: skip

    async def _change(self, deployment: Deployment, replicas: int) -> None:
        with contextlib.suppress(TFserveError):  # not recorded: the next reading tries again
            async with self._set.changing:
                if self._follows(deployment):
                    log.info("%s: %d replicas instead of %d", self._name, replicas, deployment.options.replicas)
                    await self._apply(deployment, replace(deployment.options, replicas=replicas))
        self._changed.fire()

    async def _in_flight(self, deployment: Deployment) -> int:
        """The predictions of this deployment that web processes wait for."""
        found = await in_flight(self._announcements.lines, ReadInFlight(deployments=[deployment.id]))
        return found[deployment.id]
