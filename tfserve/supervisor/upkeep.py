"""Keeps the deployed model of one workspace serving: watched, restored, scaled, moved to a faster runtime, drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from tfserve.control import records
from tfserve.control.models import Deployment as Row
from tfserve.conversions import Report
from tfserve.errors import NotFound, TFserveError, Unavailable
from tfserve.ipc.messages import ReadSamples, Samples
from tfserve.supervisor.full import FullModel
from tfserve.supervisor.loading import Loading, Means
from tfserve.supervisor.migration import Migration
from tfserve.supervisor.replicas import Deployment, Replica
from tfserve.supervisor.restarts import ModelDeaths
from tfserve.supervisor.workers import Worker, WorkerDied

log = logging.getLogger(__name__)

SAMPLES_S = 0.5
"""A worker that is busy for so long gives no samples."""
PREPARED_S = 30.0
"""The same where nobody waits, and files have to be decoded."""


class Upkeep:
    """The active deployment, and everything that keeps it so."""

    def __init__(self, name: str, means: Means, *, give_up: Callable[[str], None]) -> None:
        self.active: Deployment | None = None
        #: a request of the workspace API that was answered, to warm up by
        self.sample: bytes | None = None
        #: the worker that computes a job now
        self.computing: Worker | None = None
        #: held while a job computes, so that no process is stopped under it
        self.turn = asyncio.Lock()
        #: versions that still answer what they have, the newest first
        self._draining: list[Deployment] = []
        #: held while it is decided which processes serve; never while something is loaded or drained
        self._deciding = asyncio.Lock()
        self._name = name
        self._means = means
        self._loading = Loading(name, means)
        self._deaths = ModelDeaths()
        self._give_up = give_up
        self._restoring: asyncio.Task[None] | None = None
        self._migration = Migration(
            self._loading, means, is_active=lambda deployment: self.active is deployment, samples=self.samples,
            load=self.load, switch=self._switch, restore=self.restore,
        )  # fmt: skip
        self.full = FullModel(
            self._loading, is_active=lambda deployment: self.active is deployment, announce=self.announce,
            retire=self._retire_aside, in_background=self._in_background,
        )  # fmt: skip
        self._background: set[asyncio.Task[None]] = set()

    def deployed(self) -> Deployment:
        """Raises `NotFound`."""
        if self.active is None:
            raise NotFound(f"No model is deployed in workspace {self._name!r}. POST /deploy/ deploys one.")
        return self.active

    # --- coming and going

    async def put(self, new: Deployment, *, keeps_replicas: bool = False) -> None:
        """From now on this one serves; the one before ends when it has answered what it has.

        With `keeps_replicas` it gets as many processes as the one before has by now.
        """
        async with self._deciding:
            old, self.active = self.active, new
            if old is None or old.path != new.path:
                self.sample = None
            await self._stop_tasks()
            if old is not None:
                if keeps_replicas:
                    new.options = msgspec.structs.replace(new.options, replicas=old.options.replicas)
                self._begin_draining(old)
            for replica in new.replicas:
                self._watch(new, replica)
            await self.announce()
            if old is not None:
                self._in_background(self._end(old))
            self._trim(new)
        self._means.changed.fire()
        if len(new.living) < new.options.replicas:
            self.restore(new)
        self._migration.begin(new)

    async def take_away(self) -> int:
        """Nothing is deployed from now on. Returns, when all is answered, how much memory that gave back in bytes."""
        async with self._deciding:
            active, self.active = self.deployed(), None
            self.sample = None
            await self._stop_tasks()
            freed = sum(replica.worker.memory_bytes() for replica in active.all_living)
            self._begin_draining(active)
            await self.announce()
        await asyncio.shield(self._in_background(self._end(active)))
        self._means.changed.fire()
        return freed

    async def close(self) -> None:
        """Ends the processes; what is recorded stays, so that the next start brings the model back."""
        async with self._deciding:
            active, self.active = self.active, None
            await self._stop_tasks()
            if active is not None:
                self._begin_draining(active)
                reason = "the server is stopping, or the workspace is ending"
                gone = msgspec.structs.replace(
                    active.told(), state="failed", addresses=[], full_addresses=[], reason=reason
                )
                others = [each.told() for each in self._draining if each is not active]
                await self._means.catalogue.tell(self._name, [gone, *others])
                self._in_background(self._end(active))
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=self._means.drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await asyncio.gather(*(replica.stop() for each in self._draining for replica in each.everything))
        self._draining.clear()
        await self.announce()

    async def announce(self) -> None:
        """Tells web what serves and what drains; returns when web goes by it."""
        deployments = [*([self.active] if self.active is not None else []), *self._draining]
        await self._means.catalogue.tell(self._name, [each.told() for each in deployments])

    def _begin_draining(self, deployment: Deployment) -> None:
        deployment.state = Row.State.DRAINING
        self._draining.insert(0, deployment)

    async def _end(self, deployment: Deployment) -> None:
        """Lets predictions that are under way end, then ends the processes."""
        await asyncio.gather(self._retire(deployment, deployment.all_living), *deployment.retiring)
        self._draining.remove(deployment)
        await self.announce()

    def _retire_aside(self, deployment: Deployment, replicas: Sequence[Replica]) -> None:
        """Ends processes that serve no longer, when they have answered what they have."""
        if replicas:
            task = self._in_background(self._retire(deployment, replicas))
            deployment.retiring.add(task)
            task.add_done_callback(deployment.retiring.discard)

    async def _retire(self, deployment: Deployment, replicas: Sequence[Replica]) -> None:
        if not replicas:
            return
        deployment.leaving.update(replicas)
        try:
            addresses = [replica.address for replica in replicas]
            await self._means.catalogue.drain(self._name, deployment.id, addresses, self._means.limit_s)
            async with self.turn:  # a job may compute there
                await asyncio.gather(*(replica.stop() for replica in replicas))
        finally:
            deployment.leaving.difference_update(each for each in replicas if not each.alive)

    # --- loading

    async def load(
        self, deployment: Deployment, samples: Sequence[bytes] = (), *, chosen: Report | None = None
    ) -> Replica:
        """One more process for a deployment. Raises what `Loading.load` raises."""
        return await self._loading.load(deployment, sample=self.sample, samples=samples, chosen=chosen)

    async def samples(self, *, prepared: bool = False) -> list[bytes]:
        """Predictions that the active version has answered, of all its replicas; `prepared` with files decoded."""
        living = self.active.living if self.active is not None else []
        found = await asyncio.gather(*(self._samples_of(each, prepared=prepared) for each in living))
        return [sample for each in found for sample in each]

    async def _samples_of(self, replica: Replica, *, prepared: bool) -> list[bytes]:
        try:
            async with asyncio.timeout(PREPARED_S if prepared else SAMPLES_S):
                answer = await replica.worker.ask(ReadSamples(prepared=prepared))
                return answer.asks if isinstance(answer, Samples) else []
        except (TimeoutError, TFserveError, WorkerDied):
            log.info("the model of workspace %s gives no samples", self._name)
            return []

    async def replica(self) -> Replica:
        """A process with the deployed model, once there is one. Raises `NotFound`, `Unavailable`."""
        while True:
            active = self.deployed()
            if living := active.living:
                return living[0]
            if self._restoring is None:
                raise Unavailable(f"The model can't be used: {active.reason or 'its worker is gone'}.")
            await asyncio.shield(self._restoring)

    # --- more and fewer replicas

    async def scale(self, replicas: int) -> None:
        """Returns when so many serve. Raises `NotFound`, `Unavailable`."""
        async with self._deciding:
            active = self.deployed()
            active.options = msgspec.structs.replace(active.options, replicas=replicas)
            options = msgspec.to_builtins(active.options)
            await self._means.journal.change(partial(records.set_deployment_options, active.id, options))
            self._trim(active)
            await self.announce()
            if len(active.living) < replicas:
                self.restore(active)
        while len(self.deployed().living) < self.deployed().options.replicas:
            if self._restoring is None:
                active = self.deployed()
                reason = active.reason or "no more could be started"
                raise Unavailable(f"{len(active.living)} of {active.options.replicas} replicas serve: {reason}.")
            await asyncio.wait([self._restoring])
        self._means.changed.fire()

    def _trim(self, deployment: Deployment) -> None:
        """Lets go of processes beyond the number that is wanted. Web has to be told after it."""
        surplus = deployment.living[deployment.options.replicas :]
        if surplus:
            deployment.replicas = [each for each in deployment.replicas if each not in surplus]
            self._retire_aside(deployment, surplus)

    # --- life after death

    def bring_back(self, deployment: Deployment) -> None:
        """Goes on with what was deployed when the server ended."""
        self.active = deployment
        self.restore(deployment)

    def start_afresh(self) -> None:
        """Forgets past deaths, and tries again what was given up."""
        self._deaths = ModelDeaths()
        if self.active is not None and self.active.state == Row.State.FAILED:
            self.restore(self.active)

    def restore(self, deployment: Deployment) -> None:
        """Loads what the active deployment lacks, as often as it takes."""
        if self._restoring is None:
            self._restoring = asyncio.get_running_loop().create_task(self._restore(deployment))

    def _watch(self, deployment: Deployment, replica: Replica) -> None:
        def on_end(_: object) -> None:
            if self.active is not deployment or replica not in deployment.replicas:
                return
            exit_ = replica.worker.child.ended.result()
            if exit_.killed_because is None:
                self._deaths.serving.died(now=time.monotonic(), lived_s=exit_.lived_s)
            deployment.reason = f"its worker died: {exit_.sentence}"
            deployment.replicas.remove(replica)
            if not deployment.living:
                deployment.state = Row.State.LOADING
            self.restore(deployment)
            self._in_background(self.announce())

        replica.worker.child.ended.add_done_callback(on_end)
        replica.worker.on_samples = partial(self._migration.on_samples, deployment)

    async def _restore(self, deployment: Deployment) -> None:
        try:
            while self.active is deployment and not await self._restored(deployment):
                pass
        finally:
            self._restoring = None
            self._means.changed.fire()

    async def _restored(self, deployment: Deployment) -> bool:
        """Whether there is nothing more to try: all replicas serve, or it was given up."""
        if len(deployment.living) >= deployment.options.replicas:
            return True
        if not deployment.living:
            deployment.state = Row.State.LOADING
            await self.announce()
        self._means.changed.fire()
        await asyncio.sleep(self._deaths.delay_s(time.monotonic()))
        chosen = deployment.chosen
        try:
            replica = await self.load(deployment)
        except TFserveError as error:
            return not deployment.back_to_auto(error.message) and await self._lacks(deployment, error.message)
        except WorkerDied as death:
            return await self._died_loading(deployment, death)
        self._deaths.loading.worked()
        has_moved = deployment.chosen is not chosen and not deployment.asks_for_conversion
        if has_moved or self.active is not deployment or len(deployment.living) >= deployment.options.replicas:
            replica.worker.kill("it is not needed any more")
            return False
        deployment.take_in(replica)
        deployment.state, deployment.reason = Row.State.ACTIVE, ""
        self._watch(deployment, replica)
        await self.announce()
        if len(deployment.living) < deployment.options.replicas:
            return False
        self._migration.begin(deployment)
        return True

    async def _died_loading(self, deployment: Deployment, death: WorkerDied) -> bool:
        deployment.reason = f"its worker died while it loaded: {death}"
        self._deaths.loading.died(now=time.monotonic(), lived_s=0.0)  # a model may take minutes before it crashes
        if deployment.back_to_auto(deployment.reason) or not self._deaths.loading.given_up:
            return False
        if not deployment.living:
            self._give_up(f"its model can't be loaded again; the last time {death}.")
        return await self._lacks(deployment, deployment.reason)

    async def _lacks(self, deployment: Deployment, reason: str) -> bool:
        """No more replicas will come: with those that live it goes on, with none it has failed."""
        deployment.reason = reason
        if not deployment.living:
            deployment.state = Row.State.FAILED
        await self.announce()
        return True

    async def _switch(self, deployment: Deployment, replicas: list[Replica], report: Report) -> None:
        """Serves with processes of another runtime, in the same step in which the others begin to drain.

        Empties `replicas`: until then, the code that loaded them has to end them.
        """
        async with self._deciding:
            old, deployment.replicas, deployment.chosen = deployment.living, [], report
            for replica in replicas:
                deployment.take_in(replica)
                self._watch(deployment, replica)
            self._trim(deployment)
            self._retire_aside(deployment, old)
            replicas.clear()
            await self.announce()

    # --- TensorFlow beside a faster runtime

    async def full_replica(self) -> Replica | None:
        """A process with all of the model, for what the faster runtime does not know; None when there is no need.

        Raises what the worker says is wrong with the model, `NotFound`, `Unavailable`.
        """
        active = self.deployed()
        if active.chosen is None:
            return None
        return await self.full.replica(active)

    # --- inside

    async def _stop_tasks(self) -> None:
        tasks = [task for task in (self._restoring, self._migration.task, self.full.starting) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
