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
from tfserve.ipc.messages import META_GRAPH, BecomeModel, JobKind, JobState, ModelLoaded, Predict, Predictions
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs import Job, Outcome
from tfserve.supervisor.journal import Journal
from tfserve.supervisor.restarts import Restarts
from tfserve.supervisor.workers import Spare, Worker, WorkerDied

log = logging.getLogger(__name__)

DEFAULT_DEVICE = "/cpu:0"


class Abandoned(Unavailable):
    """It was ended before the model was ready."""


class Stage(Enum):
    """What the job that runs is doing, and so how it can be ended."""

    NOTHING = "nothing that takes long"
    LOADING = "loading a new version"
    WAITING = "waiting until the model is back"
    COMPUTING = "computing"


@dataclass
class Deployment:
    """One model version, and the worker that holds it while there is one."""

    id: int
    path: str
    weights: str | None
    device: str
    version: int
    format: str
    signatures: dict[str, Any]
    worker: Worker | None = None
    warm_up: str = ""
    memory_bytes: int = 0
    state: Row.State = Row.State.ACTIVE
    reason: str = ""

    @classmethod
    def from_row(cls, row: Row) -> Deployment:
        """A deployment of before the server's restart: it has to be loaded again."""
        return cls(
            id=row.pk, path=row.path, weights=row.weights, device=row.device, version=row.version or 1,
            format=row.format, signatures=row.signatures, state=Row.State.LOADING,
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """What `get_status` and the pages tell."""
        return {
            "path": self.path,
            "weights": self.weights,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
            "format": self.format,
            "device": self.device,
            "pid": self.worker.child.pid if self.worker is not None and self.worker.alive else None,
            "memory_bytes": self.memory_bytes,
            "warm_up": self.warm_up,
            "signatures": self.signatures,
        }


class Deployments:
    """Runs the jobs that deploy, update, undeploy and predict, one at a time as the queue gives them."""

    can_kill = True

    def __init__(
        self,
        workspace_id: int,
        name: str,
        *,
        journal: Journal,
        spare: Spare,
        restarts: Restarts,
        changed: Signal,
        give_up: Callable[[str], None],
    ) -> None:
        self.active: Deployment | None = None
        self.last_version = 0
        self.last_failure = ""
        self._workspace_id = workspace_id
        self._name = name
        self._journal = journal
        self._spare = spare
        self._restarts = restarts
        self._changed = changed
        self._give_up = give_up
        self._stage = Stage.NOTHING
        self._work: asyncio.Task[Sequence[Outcome]] | None = None
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
        if self._stage == Stage.COMPUTING and self.active is not None and self.active.worker is not None:
            self.active.worker.kill(because)
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
        return await self._replace(path=request["path"], weights=None, device=request["device"])

    async def _update(self, job: Job) -> Outcome:
        request: dict[str, Any] = msgspec.json.decode(job.request)
        active, path = self._deployed(), request["path"]
        if active.format == META_GRAPH and _is_weights_only(path):
            return await self._replace(path=active.path, weights=path, device=active.device)
        return await self._replace(path=path, weights=None, device=active.device)

    async def _undeploy(self, _: Job) -> Outcome:
        active = self._deployed()
        await self._journal.change(partial(records.end_deployment, active.id, Row.State.GONE, "undeployed"))
        self.active = self._sample = None
        await self._stop_restoring()
        freed = 0
        if active.worker is not None:
            freed = active.worker.memory_bytes()
            await active.worker.stop()
        self._changed.fire()
        detail = msgspec.json.encode({"version": active.version, "memory_freed_bytes": freed})
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=detail)

    async def _replace(self, *, path: str, weights: str | None, device: str) -> Outcome:
        """Loads a new version beside the one that serves, and switches when it is warm."""
        begin = partial(records.begin_deployment, self._workspace_id, path, weights, device)
        deployment_id = await self._journal.change(begin)
        try:
            with self._in(Stage.LOADING):
                worker, loaded = await self._load(path=path, weights=weights, device=device)
        except (TFserveError, WorkerDied, asyncio.CancelledError) as error:
            self.last_failure = str(error) or Abandoned().message
            end = partial(records.end_deployment, deployment_id, Row.State.FAILED, self.last_failure)
            await self._journal.change(end)
            raise
        new = Deployment(
            id=deployment_id, path=path, weights=weights, device=device,
            version=loaded.version or self.last_version + 1, format=loaded.format, signatures=loaded.signatures,
            worker=worker, warm_up=loaded.warm_up, memory_bytes=loaded.memory_bytes,
        )  # fmt: skip
        await self._switch(new)
        detail = {"version": new.version, "format": new.format, "warm_up": new.warm_up, "signatures": new.signatures}
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=msgspec.json.encode(detail))

    async def _switch(self, new: Deployment) -> None:
        old, worker = self.active, new.worker
        try:
            await self._journal.change(
                partial(
                    records.activate_deployment, new.id, version=new.version, format_=new.format,
                    signatures=new.signatures, replaces=old.id if old is not None else None,
                )
            )  # fmt: skip
        except TFserveError:
            if worker is not None:
                worker.kill("its deployment can't be recorded")
            raise
        self.active = new
        self.last_version = new.version
        self.last_failure = ""
        if old is None or old.path != new.path:
            self._sample = None
        await self._stop_restoring()
        self._watch(new)
        if old is not None and old.worker is not None:
            self._in_background(old.worker.stop())
        self._changed.fire()

    async def _load(self, *, path: str, weights: str | None, device: str) -> tuple[Worker, ModelLoaded]:
        """Raises what the worker says is wrong with the model, or `WorkerDied`."""
        worker = await self._spare.take(needs_tensorflow=True)
        try:
            question = BecomeModel(workspace=self._name, path=path, weights=weights, device=device, sample=self._sample)
            loaded = await worker.ask(question)
            if not isinstance(loaded, ModelLoaded):
                raise Internal(f"a worker answered {type(loaded).__name__} to a model")
            return worker, loaded
        except BaseException:
            worker.kill("its model could not be loaded")
            raise

    # --- predict

    async def _predict(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        with self._in(Stage.WAITING):
            worker = await self._serving()
        with self._in(Stage.COMPUTING):
            answer = await worker.ask(Predict(requests=[job.request for job in jobs]))
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

    async def _serving(self) -> Worker:
        """The worker of the deployed model, once it is there."""
        while True:
            active = self._deployed()
            if active.worker is not None and active.worker.alive:
                return active.worker
            if self._restoring is None:
                raise Unavailable(f"The model can't be used: {active.reason or 'its worker is gone'}.")
            await asyncio.shield(self._restoring)

    def _deployed(self) -> Deployment:
        if self.active is None:
            raise NotFound(f"No model is deployed in workspace {self._name!r}. POST /deploy/ deploys one.")
        return self.active

    # --- life after death

    def restore(self, deployment: Deployment) -> None:
        """Loads a deployment again whose worker is gone, as often as it takes."""
        self.active = deployment
        if self._restoring is None:
            self._restoring = asyncio.get_running_loop().create_task(self._restore(deployment))

    async def restart(self) -> None:
        """A fresh start for a model that was given up."""
        if self.active is not None and self.active.state == Row.State.FAILED:
            self.restore(self.active)

    async def close(self) -> None:
        """Ends the worker; what is recorded stays, so that the next start brings the model back."""
        active, self.active = self.active, None
        await self._stop_restoring()
        if active is not None and active.worker is not None:
            await active.worker.stop()
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _watch(self, deployment: Deployment) -> None:
        assert deployment.worker is not None
        worker = deployment.worker

        def on_end(_: object) -> None:
            if self.active is deployment and deployment.worker is worker:
                exit_ = worker.child.ended.result()
                if (
                    self._stage != Stage.COMPUTING
                ):  # otherwise the dispatcher counts it, which learns of it from the prediction
                    self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
                deployment.reason = f"its worker died: {exit_.sentence}"
                self.restore(deployment)

        worker.child.ended.add_done_callback(on_end)

    async def _restore(self, deployment: Deployment) -> None:
        try:
            while self.active is deployment and not await self._restored(deployment):
                pass
        finally:
            self._restoring = None
            self._changed.fire()

    async def _restored(self, deployment: Deployment) -> bool:
        """Whether there is nothing more to try: it serves, or it was given up."""
        deployment.state = Row.State.LOADING
        self._changed.fire()
        await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
        try:
            deployment.worker, loaded = await self._load(
                path=deployment.path, weights=deployment.weights, device=deployment.device
            )
        except TFserveError as error:
            deployment.state, deployment.reason = Row.State.FAILED, error.message
            return True
        except WorkerDied as death:
            deployment.reason = f"its worker died while it loaded: {death}"
            self._restarts.died(now=time.monotonic(), lived_s=death.exit.lived_s)
            if not self._restarts.given_up:
                return False
            deployment.state = Row.State.FAILED
            self._give_up(f"its model can't be loaded again; the last time {death}.")
            return True
        deployment.state, deployment.warm_up = Row.State.ACTIVE, loaded.warm_up
        deployment.memory_bytes = loaded.memory_bytes
        self._watch(deployment)
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
