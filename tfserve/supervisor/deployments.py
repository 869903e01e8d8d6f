"""The model of one workspace: loaded aside, switched in, watched, restored after a death, and given back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tfserve.control import records
from tfserve.control.models import Deployment as Row
from tfserve.errors import Internal, NotFound, TFserveError, Unavailable
from tfserve.ipc.messages import (
    META_GRAPH,
    JobKind,
    JobState,
    ModelOptions,
    Predict,
    Predictions,
    ReadSamples,
    Samples,
)
from tfserve.supervisor.catalogue import Catalogue
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs import Job, Outcome
from tfserve.supervisor.journal import Journal
from tfserve.supervisor.replicas import Deployment, Replica, load, options_of
from tfserve.supervisor.restarts import Restarts
from tfserve.supervisor.workers import Spare, Worker, WorkerDied

log = logging.getLogger(__name__)

DEFAULT_DEVICE = "/cpu:0"
SAMPLES_S = 0.5
"""A worker that is busy for so long gives no samples."""


class Abandoned(Unavailable):
    """It was ended before the model was ready."""


class Stage(Enum):
    """What the job that runs is doing, and so how it can be ended."""

    NOTHING = "nothing that takes long"
    LOADING = "loading a new version"
    WAITING = "waiting until the model is back"
    COMPUTING = "computing"


@dataclass(frozen=True)
class Means:
    """What the deployments of all workspaces share."""

    journal: Journal
    spare: Spare
    catalogue: Catalogue
    changed: Signal
    #: how long predictions that are under way may take to end when their version goes
    drain_s: float
    #: how long one computation may take
    limit_s: float


class Deployments:
    """Runs the jobs that deploy, update, undeploy and predict, one at a time as the queue gives them."""

    can_kill = True

    def __init__(
        self,
        workspace_id: int,
        name: str,
        *,
        means: Means,
        restarts: Restarts,
        give_up: Callable[[str], None],
    ) -> None:
        self.active: Deployment | None = None
        self.last_version = 0
        self.last_failure = ""
        self._workspace_id = workspace_id
        self._name = name
        self._means = means
        self._journal = means.journal
        self._restarts = restarts
        self._give_up = give_up
        self._stage = Stage.NOTHING
        self._work: asyncio.Task[Sequence[Outcome]] | None = None
        self._computing: Worker | None = None
        self._sample: bytes | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        self._work = asyncio.get_running_loop().create_task(self._run(jobs))
        try:
            return await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the whole dispatcher is
                raise
            raise Abandoned from None
        finally:
            self._work = None

    def interrupt(self, _: Job) -> None:
        """A model can't be interrupted while it computes or loads; it is killed after the grace time."""

    def kill(self, because: str) -> None:
        """Ends what a job is doing: computing ends with the process, loading and waiting are given up."""
        if self._stage == Stage.COMPUTING and self._computing is not None:
            self._computing.kill(because)
        elif self._stage in (Stage.LOADING, Stage.WAITING) and self._work is not None:
            self._work.cancel()

    async def _run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        if jobs[0].kind == JobKind.PREDICT:
            return await self._predict(jobs)
        run = {JobKind.DEPLOY: self._deploy, JobKind.UPDATE: self._update, JobKind.UNDEPLOY: self._undeploy}
        return [await run[job.kind](job) for job in jobs]

    @contextmanager
    def _in(self, stage: Stage) -> Iterator[None]:
        self._stage = stage
        try:
            yield
        finally:
            self._stage = Stage.NOTHING

    # --- deploy, update, undeploy

    async def _deploy(self, job: Job) -> Outcome:
        request: dict[str, Any] = msgspec.json.decode(job.request)
        options = options_of(request.get("options") or {})
        return await self._replace(path=request["path"], weights=None, device=request["device"], options=options)

    async def _update(self, job: Job) -> Outcome:
        request: dict[str, Any] = msgspec.json.decode(job.request)
        active, path = self._deployed(), request["path"]
        same = partial(self._replace, device=active.device, options=active.options)
        if active.format == META_GRAPH and _is_weights_only(path):
            return await same(path=active.path, weights=path)
        return await same(path=path, weights=None)

    async def _undeploy(self, _: Job) -> Outcome:
        active = self._deployed()
        await self._journal.change(partial(records.end_deployment, active.id, Row.State.GONE, "undeployed"))
        self.active = self._sample = None
        await self._stop_restoring()
        freed = sum(replica.worker.memory_bytes() for replica in active.living)
        active.state = Row.State.DRAINING
        await self._announce(active)
        await self._end(active)
        await self._announce()
        self._means.changed.fire()
        detail = msgspec.json.encode({"version": active.version, "memory_freed_bytes": freed})
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=detail)

    async def _replace(self, *, path: str, weights: str | None, device: str, options: ModelOptions) -> Outcome:
        """Loads a new version beside the one that serves, and switches when it is warm."""
        begin = partial(
            records.begin_deployment, self._workspace_id, path, weights, device, msgspec.to_builtins(options)
        )
        new = Deployment(
            id=await self._journal.change(begin), path=path, weights=weights, device=device, options=options,
            version=0, format="", signatures={},
        )  # fmt: skip
        try:
            with self._in(Stage.LOADING):
                await self._load_all(new)
        except (TFserveError, WorkerDied, asyncio.CancelledError) as error:
            self.last_failure = str(error) or Abandoned().message
            await self._journal.change(partial(records.end_deployment, new.id, Row.State.FAILED, self.last_failure))
            raise
        await self._switch(new)
        detail = {"version": new.version, "format": new.format, "warm_up": new.warm_up, "signatures": new.signatures}
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=msgspec.json.encode(detail))

    async def _load_all(self, new: Deployment) -> None:
        """All replicas or none. Raises what the first worker says is wrong with the model, or `WorkerDied`."""
        samples = await self._samples()
        try:
            for _ in range(new.options.replicas):
                new.take_in(await self._load(new, samples))
        except BaseException:
            for replica in new.replicas:
                replica.worker.kill("its version could not be deployed")
            raise
        loaded = new.replicas[0].loaded
        new.version = loaded.version or self.last_version + 1
        new.format, new.signatures = loaded.format, loaded.signatures

    async def _load(self, deployment: Deployment, samples: Sequence[bytes] = ()) -> Replica:
        question = deployment.question(self._name, sample=self._sample, samples=samples, limit_s=self._means.limit_s)
        return await load(self._means.spare, question)

    async def _samples(self) -> list[bytes]:
        """Predictions that the version before has answered lately."""
        living = self.active.living if self.active is not None else []
        if living:
            try:
                async with asyncio.timeout(SAMPLES_S):
                    answer = await living[0].worker.ask(ReadSamples())
                    return answer.asks if isinstance(answer, Samples) else []
            except (TimeoutError, TFserveError, WorkerDied):
                log.info("the model of workspace %s gives no samples", self._name)
        return []

    async def _switch(self, new: Deployment) -> None:
        old = self.active
        try:
            await self._journal.change(
                partial(
                    records.activate_deployment, new.id, version=new.version, format_=new.format,
                    signatures=new.signatures, replaces=old.id if old is not None else None,
                )
            )  # fmt: skip
        except TFserveError:
            for replica in new.replicas:
                replica.worker.kill("its deployment can't be recorded")
            raise
        self.active = new
        self.last_version = new.version
        self.last_failure = ""
        if old is None or old.path != new.path:
            self._sample = None
        await self._stop_restoring()
        for replica in new.replicas:
            self._watch(new, replica)
        if old is not None:
            old.state = Row.State.DRAINING
            await self._announce(new, old)
            self._in_background(self._end_replaced(old))
        else:
            await self._announce(new)
        self._means.changed.fire()

    async def _end_replaced(self, old: Deployment) -> None:
        await self._end(old)
        if self.active is not None:
            await self._announce(self.active)

    async def _end(self, deployment: Deployment) -> None:
        """Lets predictions that are under way end, then ends the processes."""
        if deployment.living:
            drain = self._means.catalogue.drain
            await drain(self._name, deployment.id, deployment.addresses, self._means.drain_s)
        await asyncio.gather(*(replica.stop() for replica in deployment.living))

    async def _announce(self, *deployments: Deployment) -> None:
        await self._means.catalogue.tell(self._name, [each.told() for each in deployments])

    # --- predict

    async def _predict(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        with self._in(Stage.WAITING):
            self._computing = (await self._serving()).worker
        with self._in(Stage.COMPUTING):
            answer = await self._computing.ask(Predict(requests=[job.request for job in jobs]))
        if not isinstance(answer, Predictions):
            raise Internal(f"a worker answered {type(answer).__name__} to a prediction")
        outcomes = [
            Outcome(state=JobState.FAILED, result=b"null", error=each.error)
            if each.error is not None
            else Outcome(state=JobState.SUCCEEDED, result=each.result)
            for each in answer.predictions
        ]
        for job, outcome in zip(jobs, outcomes, strict=False):
            if outcome.state == JobState.SUCCEEDED:
                self._sample = job.request
        return outcomes

    async def _serving(self) -> Replica:
        """A process with the deployed model, once there is one."""
        while True:
            active = self._deployed()
            if living := active.living:
                return living[0]
            if self._restoring is None:
                raise Unavailable(f"The model can't be used: {active.reason or 'its worker is gone'}.")
            await asyncio.shield(self._restoring)

    def _deployed(self) -> Deployment:
        if self.active is None:
            raise NotFound(f"No model is deployed in workspace {self._name!r}. POST /deploy/ deploys one.")
        return self.active

    # --- more and fewer replicas

    async def scale(self, replicas: int) -> None:
        """Returns when so many serve. Raises `NotFound`, `Unavailable`."""
        active = self._deployed()
        active.options = msgspec.structs.replace(active.options, replicas=replicas)
        options = msgspec.to_builtins(active.options)
        await self._journal.change(partial(records.set_deployment_options, active.id, options))
        surplus = active.living[replicas:]
        active.replicas = active.living[:replicas]
        await self._announce(active)
        for replica in surplus:
            await self._means.catalogue.drain(self._name, active.id, [replica.address], self._means.drain_s)
            await replica.stop()
        if len(active.living) < replicas:
            self.restore(active)
            assert self._restoring is not None
            await asyncio.wait([self._restoring])
        if len(active.living) < replicas:
            raise Unavailable(
                f"{len(active.living)} of {replicas} replicas serve: {active.reason or 'no more started'}."
            )
        self._means.changed.fire()

    # --- life after death

    def restore(self, deployment: Deployment) -> None:
        """Loads what a deployment lacks, as often as it takes."""
        self.active = deployment
        if self._restoring is None:
            self._restoring = asyncio.get_running_loop().create_task(self._restore(deployment))

    async def restart(self) -> None:
        """A fresh start for a model that was given up."""
        if self.active is not None and self.active.state == Row.State.FAILED:
            self.restore(self.active)

    async def close(self) -> None:
        """Ends the processes; what is recorded stays, so that the next start brings the model back."""
        active, self.active = self.active, None
        await self._stop_restoring()
        if active is not None:
            told = msgspec.structs.replace(
                active.told(), state="failed", addresses=[], reason="the server is stopping, or the workspace is ending"
            )
            await self._means.catalogue.tell(self._name, [told])
            await self._end(active)
            await self._announce()
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _watch(self, deployment: Deployment, replica: Replica) -> None:
        def on_end(_: object) -> None:
            if self.active is not deployment or replica not in deployment.replicas:
                return
            exit_ = replica.worker.child.ended.result()
            if self._stage != Stage.COMPUTING or self._computing is not replica.worker:
                # otherwise the dispatcher counts it, which learns of it from the prediction
                self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
            deployment.reason = f"its worker died: {exit_.sentence}"
            deployment.replicas.remove(replica)
            if not deployment.living:
                deployment.state = Row.State.LOADING
            self.restore(deployment)
            self._in_background(self._announce(deployment))

        replica.worker.child.ended.add_done_callback(on_end)

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
            await self._announce(deployment)
        self._means.changed.fire()
        await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
        try:
            replica = await self._load(deployment)
        except TFserveError as error:
            return await self._lacks(deployment, error.message)
        except WorkerDied as death:
            deployment.reason = f"its worker died while it loaded: {death}"
            self._restarts.died(now=time.monotonic(), lived_s=death.exit.lived_s)
            if not self._restarts.given_up:
                return False
            if not deployment.living:
                self._give_up(f"its model can't be loaded again; the last time {death}.")
            return await self._lacks(deployment, deployment.reason)
        deployment.take_in(replica)
        deployment.state = Row.State.ACTIVE
        self._watch(deployment, replica)
        await self._announce(deployment)
        return len(deployment.living) >= deployment.options.replicas

    async def _lacks(self, deployment: Deployment, reason: str) -> bool:
        """No more replicas will come: with those that live it goes on, with none it has failed."""
        deployment.reason = reason
        if not deployment.living:
            deployment.state = Row.State.FAILED
        await self._announce(deployment)
        return True

    async def _stop_restoring(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.wait([self._restoring])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _is_weights_only(path: str) -> bool:
    """Whether a checkpoint prefix has no graph of its own beside it."""
    return not path.endswith(".meta") and not Path(path + ".meta").exists() and not Path(path).exists()
