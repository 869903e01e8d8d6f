"""The replica set of one workspace: the processes of its deployed model are watched, restored, scaled and drained."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from tfserve.config import Settings
from tfserve.db import writes
from tfserve.db.models import Deployment as Row
from tfserve.errors import NotFound, TFserveError, Unavailable, Unsupported
from tfserve.ipc.messages import ModelVersion, ReadSamples
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.deaths import last_death
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.full_runtime import FullModel
from tfserve.supervisor.models.migration import Migration
from tfserve.supervisor.models.replicas import Replica, start_replica
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.processes.restarts import ModelDeaths
from tfserve.supervisor.processes.worker import Spare, Worker, WorkerDied

log = logging.getLogger(__name__)

STOPPING = "the server is stopping, or the workspace is ending"
SAMPLES_S = 0.5
"""Maximum time to wait for the samples of a busy worker."""
PREPARED_S = 30.0
"""The same if files have to be decoded, which only happens in the background."""


class ReplicaSet:
    """The active deployment and its processes, together with those of former versions that still drain."""

    def __init__(
        self, name: str, settings: Settings, *, journal: Journal, spare: Spare, announcements: Announcements,
        trials: RuntimeTrials, changed: Signal, give_up: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`name` is that of the workspace; `give_up` is called with the reason if the model can't be loaded again."""
        self.active: Deployment | None = None
        #: the last request of the workspace API that succeeded, for the next warm-up
        self.sample: bytes | None = None
        #: the worker that computes a job now
        self.computing: Worker | None = None
        #: held while a job computes, so that its process is not stopped
        self.computing_lock = asyncio.Lock()
        #: former versions that still have requests, the newest first
        self._draining: list[Deployment] = []
        #: the version that is refused with 503 while the server stops or the workspace ends
        self._stopped: ModelVersion | None = None
        #: held while the set of serving processes changes; never while one loads or drains
        self._changing = asyncio.Lock()
        self._name = name
        self._settings = settings
        self._journal = journal
        self._spare = spare
        self._announcements = announcements
        self.trials = trials
        self._changed = changed
        self._deaths = ModelDeaths()
        self._give_up = give_up
        self._restoring: asyncio.Task[None] | None = None
        self._migration = Migration(self, trials, convert=settings.convert)
        self._full = FullModel(self)
        self._background: set[asyncio.Task[None]] = set()

    def deployed(self) -> Deployment:
        """Raises `NotFound`."""
        if self.active is None:
            raise NotFound(f"No model is deployed in workspace {self._name!r}. POST /deploy/ deploys one.")
        return self.active

    # --- activating and removing a version

    async def activate(self, new: Deployment, *, keeps_replicas: bool = False) -> None:
        """From now on this version serves; the one before ends when it has no more requests.

        With `keeps_replicas` it gets as many processes as the one before has by now.
        """
        async with self._changing:
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
                self.in_background(self._end(old))
            self._trim(new)
        self._changed.fire()
        if len(new.living) < new.options.replicas:
            self.restore(new)
        self._migration.begin(new)

    async def remove(self) -> int:
        """Removes the active version, waits for its requests, and returns how many bytes of memory that released."""
        async with self._changing:
            active, self.active = self.deployed(), None
            self.sample = None
            await self._stop_tasks()
            freed = sum(replica.worker.memory_bytes() for replica in active.all_living)
            self._begin_draining(active)
            await self.announce()
        await asyncio.shield(self.in_background(self._end(active)))
        self._changed.fire()
        return freed

    async def close(self, *, server_stops: bool = False) -> None:
        """Ends the processes. The deployment stays recorded, so that the next start loads it again."""
        async with self._changing:
            active, self.active = self.active, None
            await self._stop_tasks()
            if active is not None:
                self._begin_draining(active)
                ended = {"state": "failed", "addresses": [], "full_addresses": [], "reason": STOPPING}
                self._stopped = msgspec.structs.replace(active.announcement(), **ended)
                await self.announce()
                self.in_background(self._end(active))
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=self._settings.drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await asyncio.gather(*(replica.stop() for each in self._draining for replica in each.everything))
        self._draining.clear()
        self._stopped = self._stopped if server_stops else None
        await self.announce()

    async def announce(self) -> None:
        """Sends web processes the versions that serve and drain; returns when they have taken them over."""
        deployments = [*([self.active] if self.active is not None else []), *self._draining]
        versions = [each.announcement() for each in deployments if not self._stopped or self._stopped.id != each.id]
        await self._announcements.announce(self._name, [*([self._stopped] if self._stopped else []), *versions])

    def _begin_draining(self, deployment: Deployment) -> None:
        deployment.state = Row.State.DRAINING
        self._draining.insert(0, deployment)

    async def _end(self, deployment: Deployment) -> None:
        """Waits for the predictions of a draining version, then ends its processes."""
        await asyncio.gather(self._drain(deployment, deployment.all_living), *deployment.retiring)
        self._draining.remove(deployment)
        await self.announce()

    def retire(self, deployment: Deployment, replicas: Sequence[Replica]) -> None:
        """Drains processes of a version in the background."""
        if replicas:
            task = self.in_background(self._drain(deployment, replicas))
            deployment.retiring.add(task)
            task.add_done_callback(deployment.retiring.discard)

    async def _drain(self, deployment: Deployment, replicas: Sequence[Replica]) -> None:
        if not replicas:
            return
        deployment.leaving.update(replicas)
        try:
            addresses = [replica.address for replica in replicas]
            await self._announcements.drain(self._name, deployment.id, addresses, self._settings.predict_timeout_s)
            async with self.computing_lock:  # a job may compute there
                await asyncio.gather(*(replica.stop() for replica in replicas))
        finally:
            deployment.leaving.difference_update(each for each in replicas if not each.alive)

    # --- loading

    async def load(
        self, deployment: Deployment, samples: Sequence[bytes] = (), *, chosen: Report | None = None
    ) -> Replica:
        """Starts a process with the runtime `chosen`, or the one of the deployment, and warms it up with `samples`.

        Raises the error that the worker replies with, or `WorkerDied`.
        """
        if deployment.requests_conversion and deployment.chosen is None:
            deployment.chosen = await self._convert_as_requested(deployment, samples)
        request = deployment.load_request(
            self._name, limit_s=self._settings.predict_timeout_s, sample=self.sample, samples=samples,
            chosen=chosen or deployment.chosen,
        )  # fmt: skip
        return await start_replica(self._spare, request, deployment.format)

    async def load_in_full(self, deployment: Deployment) -> Replica:
        """Starts a process with TensorFlow, whatever was chosen. Raises the same."""
        request = deployment.load_request(self._name, limit_s=self._settings.predict_timeout_s, in_full=True)
        return await start_replica(self._spare, request, deployment.format)

    def set_choice(self, deployment: Deployment, choice: str) -> None:
        """Sets what the status says about the choice of the runtime."""
        deployment.choice = choice
        self._changed.fire()

    async def _convert_as_requested(self, deployment: Deployment, samples: Sequence[bytes]) -> Report | None:
        """Converts the model for the requested runtime; None if it needs no conversion."""
        requested = deployment.requested_runtime
        try:
            report = await self.trials.find(
                deployment.path, precision=deployment.options.precision, requested=requested, in_background=False,
                samples=samples, on_progress=partial(self.set_choice, deployment),
            )  # fmt: skip
        except Unsupported:  # not a SavedModel or Keras file: the runtime reads it itself, or says what it reads
            return None
        if report.chosen != requested:
            deployment.report = report
            raise Unsupported(f"{deployment.path} can't be served by {requested}: {report.reason(requested)}.")
        deployment.set_report(report)
        self.set_choice(deployment, f"{requested} was requested")
        return report

    async def samples(self, *, prepared: bool = False) -> list[bytes]:
        """Predictions that the replicas of the active version have computed; `prepared` with files decoded."""
        living = self.active.living if self.active is not None else []
        found = await asyncio.gather(*(self._samples_of(each, prepared=prepared) for each in living))
        return [sample for each in found for sample in each]

    async def _samples_of(self, replica: Replica, *, prepared: bool) -> list[bytes]:
        try:
            async with asyncio.timeout(PREPARED_S if prepared else SAMPLES_S):
                return (await replica.worker.ask(ReadSamples(prepared=prepared))).asks
        except (TimeoutError, TFserveError, WorkerDied):
            log.info("the model of workspace %s gives no samples", self._name)
            return []

    # --- processes for requests

    async def replica(self) -> Replica:
        """Returns a process with the deployed model when there is one. Raises `NotFound`, `Unavailable`."""
        while True:
            active = self.deployed()
            if living := active.living:
                return living[0]
            if self._restoring is None:
                raise Unavailable(f"The model can't be used: {active.reason or 'its worker is gone'}.")
            await asyncio.shield(self._restoring)

    async def full_replica(self) -> Replica | None:
        """A process with TensorFlow, for requests that the faster runtime can't compute; None if there is no such one.

        Raises the error that the worker replies with, `NotFound`, `Unavailable`.
        """
        active = self.deployed()
        return None if active.chosen is None else await self._full.replica(active)

    # --- scaling

    async def scale(self, replicas: int) -> None:
        """Returns when this many serve. Raises `NotFound`, `Unavailable`."""
        async with self._changing:
            active = self.deployed()
            active.options = msgspec.structs.replace(active.options, replicas=replicas)
            options = msgspec.to_builtins(active.options)
            await self._journal.change(partial(writes.set_deployment_options, active.id, options))
            self._trim(active)
            await self.announce()
            if len(active.living) < replicas:
                self.restore(active)
        while len(self.deployed().living) < self.deployed().options.replicas:
            if self._restoring is None:
                reason = (active := self.deployed()).reason or "no more could be started"
                raise Unavailable(f"{len(active.living)} of {active.options.replicas} replicas serve: {reason}.")
            await asyncio.wait([self._restoring])
        self._changed.fire()

    def _trim(self, deployment: Deployment) -> None:
        """Retires surplus processes. Web has to be notified afterwards."""
        surplus = deployment.living[deployment.options.replicas :]
        if surplus:
            deployment.replicas = [each for each in deployment.replicas if each not in surplus]
            self.retire(deployment, surplus)

    async def switch(self, deployment: Deployment, replicas: list[Replica], report: Report) -> None:
        """Serves with processes of another runtime, in the same step in which the others begin to drain.

        Empties `replicas`: until then, the code that loaded them has to end them.
        """
        async with self._changing:
            old, deployment.replicas, deployment.chosen = deployment.living, [], report
            for replica in replicas:
                deployment.add(replica)
                self._watch(deployment, replica)
            self._trim(deployment)
            self.retire(deployment, old)
            replicas.clear()
            await self.announce()

    # --- restoring after a death

    def resume(self, deployment: Deployment) -> None:
        """Loads what was deployed when the server ended."""
        self.active = deployment
        self.restore(deployment)

    def retry(self) -> None:
        """Forgets past deaths, and tries to load a model that was given up."""
        self._deaths = ModelDeaths()
        if self.active is not None and self.active.state == Row.State.FAILED:
            self.restore(self.active)

    def restore(self, deployment: Deployment) -> None:
        """Starts the missing processes of the active deployment, with as many attempts as needed."""
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
            self.in_background(self.announce())

        replica.worker.child.ended.add_done_callback(on_end)
        replica.worker.on_samples = partial(self._migration.on_samples, deployment)

    async def _restore(self, deployment: Deployment) -> None:
        try:
            while self.active is deployment and not await self._restore_one(deployment):
                pass
        finally:
            self._restoring = None
            self._changed.fire()

    async def _restore_one(self, deployment: Deployment) -> bool:
        """Whether there is nothing more to try: all replicas serve, or they were given up."""
        if len(deployment.living) >= deployment.options.replicas:
            return True
        if not deployment.living:
            deployment.state = Row.State.LOADING
            await self.announce()
        self._changed.fire()
        await asyncio.sleep(self._deaths.delay_s(time.monotonic()))
        chosen = deployment.chosen
        try:
            replica = await self.load(deployment)
        except TFserveError as error:
            return not deployment.back_to_auto(error.message) and await self._give_up_missing(deployment, error.message)
        except WorkerDied as death:
            return await self._died_loading(deployment, death)
        self._deaths.loading.worked()
        has_moved = deployment.chosen is not chosen and not deployment.requests_conversion
        if has_moved or self.active is not deployment or len(deployment.living) >= deployment.options.replicas:
            replica.worker.kill("it is not needed any more")
            return False
        deployment.add(replica)
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
            self._give_up(last_death("its model can't be loaded again", death))
        return await self._give_up_missing(deployment, deployment.reason)

    async def _give_up_missing(self, deployment: Deployment, reason: str) -> bool:
        """Starts no more processes. The deployment serves with the living ones; without any, it has failed."""
        deployment.reason = reason
        if not deployment.living:
            deployment.state = Row.State.FAILED
        await self.announce()
        return True

    async def _stop_tasks(self) -> None:
        tasks = [task for task in (self._restoring, self._migration.task, self._full.starting) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
