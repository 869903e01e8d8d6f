"""Runs the jobs of a workspace's model: `deploy`, `update`, `undeploy` and `predict`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path

import msgspec

from tfserve.config import Settings
from tfserve.db import writes
from tfserve.db.models import Deployment as Row
from tfserve.errors import Internal, Invalid, TFserveError, Unavailable
from tfserve.ipc.messages import (
    DeployJob,
    JobKind,
    JobState,
    ModelOptions,
    Outcome,
    Predict,
    Prediction,
    UndeployJob,
    UpdateJob,
)
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models import memory_fit, model_files
from tfserve.supervisor.models.changed_options import changed
from tfserve.supervisor.models.deadly_requests import DeadlyRequests
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.replica_set import ReplicaSet
from tfserve.supervisor.models.replicas import DiedOfEveryInput
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.worker import WorkerDied


class Abandoned(Unavailable):
    """It was ended before the model was ready."""


class JobStage(Enum):
    """What the running job is doing, which decides how it can be ended."""

    NOTHING = "nothing that takes long"
    LOADING = "loading a new version"
    WAITING = "waiting until the model is back"
    COMPUTING = "computing"


class ModelRunner:
    """Runs the model jobs of one workspace."""

    can_kill = True

    def __init__(self, workspace_id: int, settings: Settings, *, replica_set: ReplicaSet, journal: Journal) -> None:
        self.replica_set = replica_set
        self.last_version = 0
        self.last_failure = ""
        self._workspace_id = workspace_id
        self._settings = settings
        self._journal = journal
        self._deadly = DeadlyRequests()
        self._stage = JobStage.NOTHING
        #: whether the running job should end early
        self._is_interrupted = False
        #: whether it should end now
        self._is_killed = False
        self._work: asyncio.Task[Sequence[Outcome]] | None = None

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        if any(job.ending is not None for job in jobs):  # while their start was being recorded
            raise Abandoned
        self._is_interrupted = self._is_killed = False
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

    def may_repeat(self, job: Job) -> bool:
        return job.may_be_repeated and not (job.kind == JobKind.PREDICT and job.request.json in self._deadly)

    def may_share(self, job: Job) -> bool:
        return job.request.json not in self._deadly

    def worked(self) -> None:
        """The replica set counts the deaths of its processes itself."""

    def died(self, jobs: Sequence[Job], exit_: Exit) -> str | None:
        """A prediction that kills its worker does not count against the workspace, but is not repeated."""
        if len(jobs) == 1 and jobs[0].kind == JobKind.PREDICT:
            self._deadly.note(jobs[0].request.json, exit_, attempts=jobs[0].attempts)
        return None

    def interrupt(self, _: Job) -> None:
        """Loading is cancelled immediately; everything else is ended after the grace time."""
        self._is_interrupted = True
        if self._stage == JobStage.LOADING and self._work is not None:
            self._work.cancel()

    def kill(self, because: str) -> None:
        """Ends the running job: its process if it computes, otherwise only its task, or before its next stage."""
        self._is_killed = True
        if self._stage == JobStage.COMPUTING and self.replica_set.computing is not None:
            self.replica_set.computing.kill(because)
        elif self._stage in (JobStage.LOADING, JobStage.WAITING) and self._work is not None:
            self._work.cancel()

    async def _run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        if jobs[0].kind == JobKind.PREDICT:
            return await self._predict(jobs)
        return [await self._change(job) for job in jobs]

    async def _change(self, job: Job) -> Outcome:
        match job.request.decode():
            case DeployJob() as deploy:
                return await self._replace(
                    path=deploy.path, weights=None, device=deploy.device, options=deploy.options,
                    is_declared=deploy.declared is True,
                )  # fmt: skip
            case UpdateJob() as update:
                return await self._update(update)
            case UndeployJob():
                return await self._undeploy()
            case _:
                raise Internal(f"{job.kind} does not change a deployment")

    @contextmanager
    def _in(self, stage: JobStage) -> Iterator[None]:
        if self._is_killed or (self._is_interrupted and stage == JobStage.LOADING):
            raise Abandoned
        self._stage = stage
        try:
            yield
        finally:
            self._stage = JobStage.NOTHING
            self.replica_set.computing = None

    # --- deploy, update, undeploy

    async def _update(self, update: UpdateJob) -> Outcome:
        active, path = self.replica_set.deployed(), update.path
        has_number = update.replicas is not msgspec.UNSET or update.autoscale is not msgspec.UNSET
        options = changed(active.options, update)
        same = partial(self._replace, device=active.device, options=options, keeps_replicas=not has_number)
        if active.format == formats.META_GRAPH and _is_weights_only(path):
            return await same(path=active.path, weights=path)
        return await same(path=path, weights=None)

    async def restart(self) -> None:
        """Tries again to load a model that was given up."""
        self._deadly.forget()
        self.replica_set.retry()

    async def _undeploy(self) -> Outcome:
        active = self.replica_set.deployed()
        await self._journal.change(partial(writes.end_deployment, active.id, Row.State.GONE, "undeployed"))
        freed = await self.replica_set.remove()
        detail = msgspec.json.encode({"version": active.version, "memory_freed_bytes": freed})
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=detail)

    async def _replace(
        self, *, path: str, weights: str | None, device: str, options: ModelOptions, keeps_replicas: bool = False,
        is_declared: bool = False,
    ) -> Outcome:  # fmt: skip
        """Loads a new version in parallel to the active one, and switches when it is warm."""
        begin = partial(
            writes.begin_deployment, self._workspace_id, path, weights, device, msgspec.to_builtins(options),
            is_declared=is_declared,
        )  # fmt: skip
        new = Deployment(
            id=await self._journal.change(begin), path=path, weights=weights, device=device, options=options,
            version=0, format="", signatures={}, is_declared=is_declared,
        )  # fmt: skip
        try:
            with self._in(JobStage.LOADING):
                located = await model_files.locate(path, weights, options)
                new.format = located.format
                new.located = str(located.path) if weights is None and Path(path) in located.path.parents else ""
                new.files_changed_at = await model_files.changed_at(new.model_path)
                size = await asyncio.to_thread(memory_fit.weights_bytes, located)
                await self.replica_set.prepare_room(size * options.replicas)
                await memory_fit.check(located, device, options, self._settings)
                await self._begin_with_known(new, located)
                await self._load_any(new, located)
        except (TFserveError, WorkerDied, asyncio.CancelledError) as error:
            self.last_failure = str(error) or Abandoned().message
            await self._journal.change(partial(writes.end_deployment, new.id, Row.State.FAILED, self.last_failure))
            raise
        await self._switch(new, keeps_replicas=keeps_replicas)
        detail = {
            "version": new.version, "format": new.format, "warm_up": new.warm_up, "remarks": new.remarks,
            "signatures": new.signatures,
        }  # fmt: skip
        return Outcome(state=JobState.SUCCEEDED, result=b"true", detail=msgspec.json.encode(detail))

    async def _begin_with_known(self, new: Deployment, located: Located) -> None:
        """Chooses the runtime that was chosen for the same files before, so that TensorFlow need not be loaded."""
        if self._settings.convert and new.may_be_converted and not self._settings.allow_unsafe_ops:
            known = await self.replica_set.trials.served_before(located, new.content_options)
            if known is not None:
                new.begin_with(*known)

    async def _load_any(self, new: Deployment, located: Located) -> None:
        """Loads it with the runtime that is known, or else as it is. Raises what `_load_all` raises."""
        if new.chosen is not None:
            try:
                await self._load_all(new)
                new.version = located.version or self.last_version + 1
                return
            except (TFserveError, WorkerDied) as error:
                new.back_to_auto(str(error))
                new.replicas.clear()
        await self._load_all(new)

    async def _load_all(self, new: Deployment) -> None:
        """Loads all replicas or none. Raises the error that a worker replies with, or `WorkerDied`."""
        samples = await self.replica_set.samples()
        try:
            for _ in range(new.options.replicas):
                new.add(await self.replica_set.load(new, samples))
        except BaseException as error:
            for replica in new.replicas:
                replica.worker.kill("its version could not be deployed")
            if isinstance(error, DiedOfEveryInput):  # not a death, after which the job would be repeated
                raise Invalid(
                    f"{new.path} was not deployed: its process died of every input in its warm-up; the last time"
                    f" {error}. An example in the field warm_up replaces these inputs; warm_up: false computes none."
                ) from error
            raise
        loaded = new.replicas[0].loaded
        new.version = loaded.version or self.last_version + 1
        if new.chosen is None or new.requests_conversion:
            new.signatures = loaded.signatures  # the format is the file's, whatever it was converted into

    async def _switch(self, new: Deployment, *, keeps_replicas: bool) -> None:
        old = self.replica_set.active
        try:
            await self._journal.change(
                partial(
                    writes.activate_deployment, new.id, version=new.version, format_=new.format,
                    signatures=new.signatures, remarks=new.remarks, replaces=old.id if old is not None else None,
                )
            )  # fmt: skip
        except TFserveError:
            for replica in new.replicas:
                replica.worker.kill("its deployment can't be recorded")
            raise
        self.last_version = new.version
        self.last_failure = ""
        self._deadly.forget()
        await self.replica_set.activate(new, keeps_replicas=keeps_replicas)

    # --- predict

    async def _predict(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        predictions = await self._compute(jobs, in_full=False)
        if any(each.in_full for each in predictions):
            predictions = await self._compute_in_full(jobs, predictions)
        outcomes = [_outcome(each) for each in predictions]
        for job, outcome in zip(jobs, outcomes, strict=False):
            if outcome.state == JobState.SUCCEEDED:
                self.replica_set.sample = job.request.json
        return outcomes

    async def _compute(self, jobs: Sequence[Job], *, in_full: bool) -> list[Prediction]:
        replica_set = self.replica_set
        with self._in(JobStage.WAITING):
            replica = (await replica_set.full_replica() if in_full else None) or await replica_set.replica()
        async with replica_set.computing_lock:
            with self._in(JobStage.COMPUTING):
                replica_set.computing = replica.worker
                response = await replica.worker.ask(Predict(requests=[job.request.json for job in jobs]))
        return response.predictions

    async def _compute_in_full(self, jobs: Sequence[Job], predictions: list[Prediction]) -> list[Prediction]:
        """Predictions by TensorFlow for the requests that the faster runtime can't compute."""
        again = [n for n, each in enumerate(predictions) if each.in_full]
        try:
            found = await self._compute([jobs[n] for n in again], in_full=True)
        except Abandoned:  # only some of them may have been ended
            raise
        except TFserveError as error:
            found = [Prediction(error=msgspec.json.encode(error.to_failure()))] * len(again)
        answered = dict(zip(again, found, strict=False))
        # If they did not all fit into one response, the queue repeats the first that is missing and all after it.
        complete = [answered.get(n, each) for n, each in enumerate(predictions)]
        return complete[: again[len(found)]] if len(found) < len(again) else complete


def _outcome(prediction: Prediction) -> Outcome:
    if prediction.error is not None:
        return Outcome(state=JobState.FAILED, result=b"null", error=prediction.error)
    return Outcome(state=JobState.SUCCEEDED, result=prediction.result)


def _is_weights_only(path: str) -> bool:
    """Whether a checkpoint prefix has no graph file next to it."""
    return not path.endswith(".meta") and not Path(path + ".meta").exists() and not Path(path).exists()
