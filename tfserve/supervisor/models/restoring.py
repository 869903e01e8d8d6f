"""Starts the missing processes of the active deployment: after a death, a restart of the server, and to wake it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfserve.db.models import Deployment as Row
from tfserve.errors import TFserveError, Unavailable
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.deaths import last_death
from tfserve.supervisor.models import model_files
from tfserve.supervisor.models.adopting import adopt
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.processes.launchers import FullNode, NoMachine
from tfserve.supervisor.processes.restarts import ModelDeaths, Restarts
from tfserve.supervisor.processes.worker import WorkerDied

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet


class CannotWake(Unavailable):
    """The model sleeps and could not be woken: {reason}. Send the request again in {wait_s} s."""


class Restoring:
    """Restores one deployment at a time, with as many attempts as needed."""

    def __init__(self, replica_set: ReplicaSet, *, changed: Signal, give_up: Callable[[str], None]) -> None:
        """`give_up` is called with the reason if the model can't be loaded again."""
        self.task: asyncio.Task[None] | None = None
        self.deaths = ModelDeaths()
        #: ends of processes because of their node: they delay the next attempt, but never prevent it
        self._lost = Restarts()
        self._set = replica_set
        self._changed = changed
        self._give_up = give_up
        #: set while a process that is missing waits for a machine that can run it
        self.has_no_place = asyncio.Event()
        #: set while a process serves
        self._serves = asyncio.Event()

    def begin(self, deployment: Deployment) -> None:
        """Starts what is missing, unless it is being started already."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._restore(deployment))
            self.task.add_done_callback(self._ended)  # also called if it is cancelled before its first step

    def wake(self, deployment: Deployment) -> None:
        """Starts the processes of a sleeping deployment. Raises `CannotWake` shortly after a failure to do so."""
        wait_s = self.deaths.delay_s(time.monotonic())
        if self.task is None and deployment.reason and wait_s:
            raise CannotWake(reason=deployment.reason, wait_s=f"{wait_s:.1f}")
        self.begin(deployment)

    async def progress(self) -> None:
        """Returns when a process serves that was missing, or when no more are started. Call it while none serves."""
        self._serves.clear()  # one that was restored may have died while others are being started
        if self.task is not None:
            serves = asyncio.get_running_loop().create_task(self._serves.wait())
            await asyncio.wait([self.task, serves], return_when=asyncio.FIRST_COMPLETED)
            serves.cancel()

    def forget(self) -> None:
        """Forgets past deaths."""
        self.deaths = ModelDeaths()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            self.task = None
            self._changed.fire()

    async def _restore(self, deployment: Deployment) -> None:
        while self._set.active is deployment and not await self._restore_one(deployment):
            pass
        self.task = None
        self._changed.fire()
        self._set.settle(deployment)

    async def _restore_one(self, deployment: Deployment) -> bool:
        """Whether there is nothing more to try: all replicas serve, or they were given up."""
        if len(deployment.staying) >= deployment.options.replicas:
            return True
        if not deployment.living and not deployment.is_asleep:
            deployment.state = Row.State.LOADING
            await self._set.announce()
        self._changed.fire()
        now = time.monotonic()
        await asyncio.sleep(max(self.deaths.delay_s(now), self._lost.delay_s(now)))
        try:
            if deployment.is_asleep:  # it may have slept for days
                deployment.found_files(await model_files.changed_at(deployment.model_path))
            adopted = await adopt(self._set.spare, self._set.trials, deployment)
            chosen = deployment.chosen
            replica = adopted or await self._set.load(deployment)
        except (NoMachine, FullNode) as error:
            return await self._wait_for_placement(deployment, error)
        except TFserveError as error:
            return not deployment.back_to_auto(error.message) and await self._refused(deployment, error)
        except WorkerDied as death:
            return await self._died_loading(deployment, death)
        self.deaths.loading.worked()
        self._lost.worked()
        has_moved = deployment.chosen is not chosen and not deployment.requests_conversion
        is_surplus = len(deployment.staying) >= deployment.options.replicas
        if has_moved or self._set.active is not deployment or is_surplus:
            replica.worker.kill("it is not needed any more")
            return False
        await self._set.serve(deployment, replica)
        self._serves.set()
        return len(deployment.staying) >= deployment.options.replicas

    async def _wait_for_placement(self, deployment: Deployment, error: TFserveError) -> bool:
        """A node may return, and others may end what they run."""
        if deployment.is_asleep:  # the next request tries again
            return await self._give_up_missing(deployment, error.message)
        deployment.reason = error.message
        self._lost.died(now=time.monotonic(), lived_s=0.0)
        await self._set.announce()
        self.has_no_place.set()
        self._changed.fire()
        try:
            await self._set.spare.wait_for_placement()
        finally:
            self.has_no_place.clear()
        return False

    async def _refused(self, deployment: Deployment, error: TFserveError) -> bool:
        if deployment.is_asleep:  # the next request tries again, after a delay that grows
            self.deaths.loading.died(now=time.monotonic(), lived_s=0.0)
        return await self._give_up_missing(deployment, error.message)

    async def _died_loading(self, deployment: Deployment, death: WorkerDied) -> bool:
        deployment.reason = f"its worker died while it loaded: {death}"
        if death.exit.lost is not None:  # its node is to blame
            self._lost.died(now=time.monotonic(), lived_s=0.0)
            return False
        self.deaths.loading.died(now=time.monotonic(), lived_s=0.0)  # a model may take minutes before it crashes
        if deployment.back_to_auto(deployment.reason) or not self.deaths.loading.given_up:
            return False
        if not deployment.living and not deployment.is_asleep:
            self._give_up(last_death("its model can't be loaded again", death))
        return await self._give_up_missing(deployment, deployment.reason)

    async def _give_up_missing(self, deployment: Deployment, reason: str) -> bool:
        """Starts no more processes. The living ones serve; without any, the deployment sleeps or has failed."""
        deployment.reason = reason
        if not deployment.living and not deployment.is_asleep:
            deployment.state = Row.State.FAILED
        await self._set.announce()
        return True
