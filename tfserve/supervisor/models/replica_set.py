"""The replica set of one workspace: the processes of its deployed model are watched, restored, scaled and drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from tfserve.config import Settings
from tfserve.db.models import Deployment as Row
from tfserve.errors import NotFound, Unavailable
from tfserve.ipc.messages import ModelVersion
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models import memory_fit
from tfserve.supervisor.models.adopting import adopt
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.models.awake_models import AwakeModels
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.full_runtime import FullModel
from tfserve.supervisor.models.migration import RuntimeMigration
from tfserve.supervisor.models.replicas import Replica, start_replica
from tfserve.supervisor.models.requested_runtime import convert_as_requested
from tfserve.supervisor.models.restoring import Restoring
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.models.scaling import Scaling
from tfserve.supervisor.models.sleep import Sleep
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.worker import Worker

T = TypeVar("T")

STOPPING = "the server is stopping, or the workspace is ending"


class ReplicaSet:
    """The active deployment and its processes, together with those of former versions that still drain."""

    def __init__(
        self, name: str, settings: Settings, *, journal: Journal, spare: Spare, announcements: Announcements,
        trials: RuntimeTrials, awake: AwakeModels, changed: Signal, give_up: Callable[[str], None],
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
        self.changing = asyncio.Lock()
        self._name = name
        self._settings = settings
        self._journal = journal
        self._spare = spare
        self._announcements = announcements
        self.trials = trials
        self._changed = changed
        self._awake = awake
        self._restoring = Restoring(self, changed=changed, give_up=give_up)
        self.scaling = Scaling(
            name, self, journal=journal, announcements=announcements, changed=changed,
            down_after_s=settings.autoscale_down_s,
        )  # fmt: skip
        self.sleep = Sleep(self, journal=journal, changed=changed, default_s=settings.idle_after)
        self._migration = RuntimeMigration(self, trials, convert=settings.convert)
        self._full = FullModel(self)
        self.background = BackgroundTasks()
        awake.add(self.sleep)

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
        async with self.changing:
            old, self.active = self.active, new
            self.sample = self.sample if old is not None and old.path == new.path else None
            await self._stop_tasks()
            if old is not None:
                if keeps_replicas:
                    new.options = msgspec.structs.replace(new.options, replicas=old.options.replicas)
                self._begin_draining(old)
            for replica in new.replicas:
                self._watch(new, replica)
            await self.announce()
            if old is not None:
                self.background.start(self._end(old))
            self.trim(new)
        self._changed.fire()
        if len(new.living) < new.options.replicas:
            self.restore(new)
        self._migration.begin(new)
        self.sleep.begin(new)
        self.scaling.begin(new)
        self.background.start(self._awake.make_room(self.sleep))

    async def remove(self) -> int:
        """Removes the active version, waits for its requests, and returns how many bytes of memory that released."""
        async with self.changing:
            active, self.active = self.deployed(), None
            self.sample = None
            await self._stop_tasks()
            freed = sum(replica.worker.memory_bytes() for replica in active.all_living)
            self._begin_draining(active)
            await self.announce()
        await asyncio.shield(self.background.start(self._end(active)))
        self._changed.fire()
        return freed

    async def close(self, *, server_stops: bool = False) -> None:
        """Ends the processes. The deployment stays recorded, so that the next start loads it again."""
        self._awake.remove(self.sleep)
        async with self.changing:
            active, self.active = self.active, None
            await self._stop_tasks()
            if active is not None:
                self._begin_draining(active)
                ended = {"state": "failed", "addresses": [], "full_addresses": [], "reason": STOPPING}
                self._stopped = msgspec.structs.replace(active.announcement(), **ended)
                await self.announce()
                self.background.start(self._end(active))
        late = await self.background.wait(self._settings.drain_s)
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
            task = self.background.start(self._drain(deployment, replicas))
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
            self._changed.fire()

    # --- loading

    async def load(
        self, deployment: Deployment, samples: Sequence[bytes] = (), *, chosen: Report | None = None
    ) -> Replica:
        """Starts a process with the runtime `chosen`, or the one of the deployment, and warms it up with `samples`.

        Raises the error that the worker replies with, or `WorkerDied`.
        """
        if deployment.requests_conversion and deployment.chosen is None:
            set_choice = partial(self.set_choice, deployment)
            deployment.chosen = await convert_as_requested(self.trials, deployment, samples, set_choice)
        request = deployment.load_request(
            self._name, limit_s=self._settings.predict_timeout_s, sample=self.sample, samples=samples,
            chosen=chosen or deployment.chosen,
        )  # fmt: skip
        async with self._awake.room(self.sleep, deployment.memory_bytes or memory_fit.TYPICAL_PROCESS_BYTES):
            return await start_replica(self._spare, request, deployment.format, deployment.demand)

    async def load_in_full(self, deployment: Deployment) -> Replica:
        """Starts a process with TensorFlow, whatever was chosen. Raises the same."""
        request = deployment.load_request(self._name, limit_s=self._settings.predict_timeout_s, in_full=True)
        return await start_replica(self._spare, request, deployment.format, deployment.demand)

    def set_choice(self, deployment: Deployment, choice: str) -> None:
        """Sets what the status says about the choice of the runtime."""
        deployment.choice = choice
        self._changed.fire()

    async def adopt(self, deployment: Deployment) -> Replica | None:
        """A process that has served the deployment since before this server started."""
        return await adopt(self._spare, self.trials, deployment)

    async def wait_for_placement(self) -> None:
        """Returns when a node may have room that had none."""
        await self._spare.wait_for_placement()

    async def prepare_room(self, needed_bytes: int) -> None:
        """Lets other models sleep if memory is short for another process with this one."""
        await self._awake.make_room(self.sleep, needed_bytes)

    async def samples(self, *, prepared: bool = False) -> list[bytes]:
        """Predictions that the replicas of the active version have computed; `prepared` with files decoded."""
        living = self.active.living if self.active is not None else []
        found = await asyncio.gather(*(each.samples(prepared=prepared) for each in living))
        return [sample for each in found for sample in each]

    # --- processes for requests

    async def replica(self) -> Replica:
        """Returns a process with the deployed model when there is one; wakes it. Raises `NotFound`, `Unavailable`."""
        was_woken = False
        while True:
            active = self.deployed()
            if living := active.living:
                return living[0]
            if active.is_asleep and not (was_woken and active.reason):
                self._restoring.wake(active)
                was_woken = True
            elif active.is_asleep:
                raise Unavailable(f"The model sleeps and could not be woken: {active.reason}.")
            elif self._restoring.task is None:
                raise Unavailable(f"The model can't be used: {active.reason or 'its worker is gone'}.")
            await self._restoring.progress()

    async def full_replica(self) -> Replica | None:
        """A process with TensorFlow, for requests that the faster runtime can't compute; None if there is no such one.

        Raises the error that the worker replies with, `NotFound`, `Unavailable`.
        """
        if self.deployed().is_asleep:
            await self.replica()
        active = self.deployed()
        return None if active.chosen is None else await self._full.replica(active)

    # --- scaling

    def trim(self, deployment: Deployment) -> None:
        """Retires surplus processes. Web has to be notified afterwards."""
        surplus = deployment.living[deployment.options.replicas :]
        if surplus:
            deployment.replicas = [each for each in deployment.replicas if each not in surplus]
            self.retire(deployment, surplus)

    async def switch(self, deployment: Deployment, replicas: list[Replica], report: Report) -> None:
        """Serves with processes of another runtime, in the same step in which the others begin to drain.

        Empties `replicas`: until then, the code that loaded them has to end them.
        """
        async with self.changing:
            old, deployment.replicas, deployment.chosen = deployment.living, [], report
            for replica in replicas:
                deployment.add(replica)
                self._watch(deployment, replica)
            self.trim(deployment)
            self.retire(deployment, old)
            replicas.clear()
            await self.announce()

    # --- restoring after a death

    def resume(self, deployment: Deployment) -> None:
        """Loads what was deployed when the server ended; what slept continues to sleep."""
        self.active = deployment
        if deployment.is_asleep:
            self.background.start(self.announce())
        else:
            self.restore(deployment)

    def retry(self) -> None:
        """Forgets past deaths, and tries to load a model that was given up."""
        self._restoring.forget()
        if self.active is not None and self.active.state == Row.State.FAILED:
            self.restore(self.active)
        elif self.active is not None and self.active.is_asleep:
            self.active.reason = ""
            self.background.start(self.announce())

    def restore(self, deployment: Deployment) -> None:
        """Starts the missing processes of the active deployment, with as many attempts as needed."""
        self._restoring.begin(deployment)

    async def restored(self) -> bool:
        """Returns when no more processes are being started: true, or false if one waits for a machine."""
        if (task := self._restoring.task) is not None:
            waits = asyncio.get_running_loop().create_task(self._restoring.has_no_place.wait())
            await asyncio.wait([task, waits], return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
        return not self._restoring.has_no_place.is_set()

    async def serve(self, deployment: Deployment, replica: Replica) -> None:
        """Returns when web sends requests to a process that was missing."""
        was_asleep = deployment.is_asleep
        deployment.add(replica)
        deployment.state, deployment.reason = Row.State.ACTIVE, ""
        self._watch(deployment, replica)
        self.trim(deployment)
        await self.announce()
        if was_asleep:
            self.background.start(self.sleep.record(deployment))

    def settle(self, deployment: Deployment) -> None:
        """All processes of the active deployment serve that can be started."""
        if self.active is deployment and deployment.living:
            if len(deployment.living) >= deployment.options.replicas:
                self._migration.begin(deployment)
            self.sleep.begin(deployment)
            self.scaling.begin(deployment)
            self.background.start(self._awake.make_room(self.sleep))

    def _watch(self, deployment: Deployment, replica: Replica) -> None:
        def on_end(_: object) -> None:
            if self.active is not deployment or replica not in deployment.replicas:
                return
            exit_ = replica.worker.child.ended.result()
            if exit_.counts:
                self._restoring.deaths.serving.died(now=time.monotonic(), lived_s=exit_.lived_s)
            deployment.reason = exit_.reason
            deployment.skipped.update(replica.killed_by())
            deployment.replicas.remove(replica)
            if not deployment.living:
                deployment.state = Row.State.LOADING
            self.restore(deployment)
            self.background.start(self.announce())

        replica.worker.child.ended.add_done_callback(on_end)
        replica.worker.on_samples = partial(self._migration.on_samples, deployment)
        replica.worker.on_concurrency = lambda: self.background.start(self.announce())

    @property
    def is_starting(self) -> bool:
        """Whether missing processes are being started."""
        return self._restoring.task is not None

    @property
    def is_replacing(self) -> bool:
        """The same, and whether a machine has room for them."""
        return self.is_starting and not self._restoring.has_no_place.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether anything but predictions of web needs the processes now."""
        return bool(self._restoring.task or self._migration.task or self._full.starting or self.computing)

    async def _stop_tasks(self) -> None:
        self.sleep.cancel()
        self.scaling.cancel()
        started = (self._restoring.task, self._migration.task, self._full.starting)
        tasks = [task for task in started if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
