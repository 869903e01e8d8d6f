"""The requests that web sends to the supervisor, each with its handler."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from tfserve import __version__
from tfserve.config import Settings
from tfserve.db import writes
from tfserve.errors import Overloaded, QueueFull, Stopping, TFserveError, Unavailable, Unsupported, WorkspaceGivenUp
from tfserve.ipc.messages import (
    CancelJob,
    CancelTask,
    CreateWorkspace,
    DeclaredState,
    DeleteUpload,
    DeployJob,
    DestroyWorkspace,
    FeedbackKept,
    FindWorkspaces,
    FinishTask,
    FoundWorkspaces,
    GetDeclared,
    GetMetrics,
    GetServer,
    GetVariables,
    GetWorkspace,
    IsReady,
    JobKind,
    JobRequest,
    JobStatus,
    KeepFeedback,
    ListWorkspaces,
    Message,
    Metrics,
    Outcome,
    ReloadModels,
    Request,
    RestartWorkspace,
    ResumeTask,
    RetryDeclared,
    ScaleModel,
    SetService,
    StartTraining,
    SubmitJob,
    Variables,
    WaitChange,
    WakeModel,
)
from tfserve.ipc.messages.cluster import Demand
from tfserve.linux import use_of
from tfserve.supervisor.declared.declared_models import DeclaredModels
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.token_jobs import TokenJobs
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.metrics import MetricsReader
from tfserve.supervisor.models.announcements import VERSION_MARK
from tfserve.supervisor.node_statuses import NodeStatuses
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.worker import Worker
from tfserve.supervisor.submissions import Machines, check_resources, demand_of, within_job_time
from tfserve.supervisor.uploads import UploadRetention
from tfserve.supervisor.workspace import Workspace
from tfserve.supervisor.workspace_search import active, find
from tfserve.supervisor.workspaces import Workspaces

R = TypeVar("R")

CHANGES_MODEL = (JobKind.DEPLOY, JobKind.UPDATE, JobKind.UNDEPLOY)

_HANDLERS: dict[type[Message], Callable[[Api, Any], Awaitable[Any]]] = {}


def handles(request: type[Request[R]]) -> Callable[[Callable[[Api, Any], Awaitable[R]]], Callable[..., Awaitable[R]]]:
    """Registers the handler of a request, which returns what the request declares as its response."""

    def register(handler: Callable[[Api, Any], Awaitable[R]]) -> Callable[..., Awaitable[R]]:
        _HANDLERS[request] = handler
        return handler

    return register


class Api:
    """Handles the requests of the web processes. `handlers` are those of other parts."""

    def __init__(
        self,
        settings: Settings,
        *,
        workspaces: Workspaces,
        trainings: TrainingQueue,
        uploads: UploadRetention,
        metrics: MetricsReader,
        journal: Journal,
        spare: Spare,
        changed: Revision,
        handlers: Mapping[type[Message], Callable[[Any], Awaitable[Any]]],
        declared: DeclaredModels,
        token_jobs: TokenJobs,
        machines: Machines,
        nodes: NodeStatuses,
    ) -> None:
        self.stopping = False
        self._settings = settings
        self._workspaces = workspaces
        self._journal = journal
        self._spare = spare
        self._changed = changed
        self._handlers = handlers
        self._trainings = trainings
        self._uploads = uploads
        self._metrics = metrics
        self._token_jobs = token_jobs
        self._declared = declared
        self._machines = machines
        self._nodes = nodes
        self._started_at = time.time()

    async def handle(self, message: Message) -> Any:
        """The response to a request."""
        if (own := self._handlers.get(type(message))) is not None:
            return await own(message)
        handler = _HANDLERS.get(type(message))
        if handler is None:
            raise Unsupported(f"the supervisor does not handle {type(message).__name__}")
        return await handler(self, message)

    # --- the server

    @handles(GetServer)
    async def _get_server(self, request: GetServer) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "ready": not self.stopping,
            "degraded": self._journal.trouble,
            "on": self._workspaces.on,
            "started_at": self._started_at,
            "revision": self._changed.number,
            "spare": _described(self._spare.here.worker),
            "light_spare": _described(self._spare.here.light_worker),
            "memory_bytes": use_of(os.getpid()).memory_bytes,
            "data_dir": str(self._settings.data_path),
            "roots": [str(root) for root in self._settings.root_paths],
            "declared": self._declared.state(),
            "nodes": self._nodes.read(),
            "totals": self._workspaces.totals(),
            "workspaces": [each.describe() for each in active(self._workspaces, request.active_limit)],
        }

    @handles(GetMetrics)
    async def _get_metrics(self, _: GetMetrics) -> Metrics:
        return await self._metrics.read()

    @handles(IsReady)
    async def _is_ready(self, _: IsReady) -> bool:
        return not self.stopping and await self._journal.is_ready()

    @handles(SetService)
    async def _set_service(self, request: SetService) -> bool:
        was_on = self._workspaces.on
        self._workspaces.on = request.on
        if was_on and not request.on:
            try:
                await self._workspaces.destroy(None)
            except TFserveError:  # some workspaces still exist
                self._workspaces.on = True
                self._declared.wake()
                raise
        self._declared.wake()
        self._changed.fire()
        return was_on != request.on

    @handles(WaitChange)
    async def _wait_change(self, request: WaitChange) -> int:
        if self._changed.number == request.since:
            self._refuse_when_stopping()
            await self._changed.wait(request.wait_s)
        return self._changed.number

    # --- workspaces

    @handles(ListWorkspaces)
    async def _list_workspaces(self, _: ListWorkspaces) -> list[str]:
        self._workspaces.require_on()
        return [workspace.name for workspace in self._workspaces if VERSION_MARK not in workspace.name]

    @handles(FindWorkspaces)
    async def _find_workspaces(self, request: FindWorkspaces) -> FoundWorkspaces:
        return find(self._workspaces, request, on=self._workspaces.on)

    @handles(CreateWorkspace)
    async def _create_workspace(self, request: CreateWorkspace) -> str:
        self._refuse_when_stopping()
        self._machines.check(Demand(resources=request.resources))
        try:
            return await self._workspaces.create(request.name, request.type, request.limits, request.resources)
        finally:
            # Meanwhile the server could not create a declared workspace of this name.
            if request.name is not None and self._declared.is_declared(request.name):
                self._declared.wake()

    @handles(DestroyWorkspace)
    async def _destroy_workspace(self, request: DestroyWorkspace) -> bool:
        self._workspaces.require_on()
        if request.name is not None:
            self._declared.refuse_change(request.name)
        had_any = await self._workspaces.destroy(request.name)
        self._declared.wake()
        return had_any

    @handles(RestartWorkspace)
    async def _restart_workspace(self, request: RestartWorkspace) -> None:
        self._refuse_when_stopping()
        await self._workspaces.restart(request.name)

    @handles(GetWorkspace)
    async def _get_workspace(self, request: GetWorkspace) -> dict[str, Any]:
        return self._workspaces.get(request.name).describe()

    @handles(GetVariables)
    async def _get_variables(self, request: GetVariables) -> Variables:
        workspace = self._workspaces.get(request.workspace)
        live = await workspace.scripts.read_variables(request.names, self._settings.max_response_bytes)
        return live or Variables(values=b"", complete=False)

    # --- jobs

    @handles(SubmitJob)
    async def _submit(self, request: SubmitJob) -> JobStatus:
        if request.request.kind in CHANGES_MODEL:
            self._declared.refuse_change(request.workspace)
        return await self._accept(request)

    async def run_job(self, workspace: str, request: JobRequest) -> Outcome:
        """Runs a job of the server itself, and returns its outcome."""
        status = await self._accept(SubmitJob(workspace=workspace, request=request.encode(), wait_s=math.inf))
        assert status.outcome is not None
        return status.outcome

    async def _accept(self, request: SubmitJob) -> JobStatus:
        received_at = time.monotonic()
        workspace = self._workspaces.get(request.workspace)
        self._refuse_when_stopping()
        request = within_job_time(workspace, request)
        check_resources(self._machines, workspace, request)
        try:
            await self._journal.check(partial(self._refuse_when_full, workspace, request.owner))
            recorded = await self._record(workspace, request)
        except (Unavailable, Overloaded):  # but a job that was accepted before is still accepted
            known = await self._known(workspace, request)
            if known is None:
                raise
            recorded = known
        job = self._new_job(workspace, request, recorded) if recorded.is_new else self._workspaces.jobs.get(recorded.id)
        if job is None:  # its key is known and it has ended: web finds the outcome in the database
            return JobStatus(job=recorded.number, id=recorded.id, kind=request.request.kind, state=recorded.state)
        if request.wait_s > 0:
            await job.wait(request.wait_s if math.isfinite(request.wait_s) else None)
        return job.status(waited_s=time.monotonic() - received_at)

    async def _known(self, workspace: Workspace, request: SubmitJob) -> writes.Recorded | None:
        if request.idempotency_key is None:
            return None
        return await self._journal.change(partial(writes.known, writes.Submission(workspace.id, request)))

    async def _record(self, workspace: Workspace, request: SubmitJob) -> writes.Recorded:
        started = workspace.dispatcher.idle and not workspace.submitting
        workspace.submitting += 1
        try:
            with self._token_jobs.submitting(request.owner):
                return await self._journal.submit(writes.Submission(workspace.id, request, started))
        finally:
            workspace.submitting -= 1

    def _new_job(self, workspace: Workspace, request: SubmitJob, recorded: writes.Recorded) -> Job:
        job = Job(
            id=recorded.id,
            number=recorded.number,
            request=request.request,
            attempts=int(recorded.is_started),
            time_limit_s=request.time_limit_s,
            output=self._workspaces.new_output(workspace, recorded.number),
            started=recorded.is_started,
            traceparent=request.traceparent,
        )
        self._token_jobs.add(request.owner, job)
        self._workspaces.put(workspace, job)
        return job

    @handles(CancelJob)
    async def _cancel(self, request: CancelJob) -> JobStatus | None:
        workspace = self._workspaces.get(request.workspace)
        job = await workspace.dispatcher.end(request.job)
        return None if job is None else job.status()

    # --- models

    async def deploy(self, workspace: str, path: str) -> None:
        """Queues a deployment; the status of the workspace shows how it ends."""
        await self._submit(SubmitJob(workspace=workspace, request=DeployJob(path=path).encode()))

    @handles(ScaleModel)
    async def _scale_model(self, request: ScaleModel) -> None:
        self._refuse_when_stopping()
        self._declared.refuse_change(request.workspace)
        replica_set = self._workspaces.get(request.workspace).model.replica_set
        options = replica_set.scaling.options_for(request.replicas, request.autoscale)
        self._machines.check(*demand_of(options))
        await replica_set.scaling.set(options)

    @handles(WakeModel)
    async def _wake_model(self, request: WakeModel) -> None:
        replica_set = self._workspaces.get(request.workspace).model.replica_set
        await (replica_set.full_replica() if request.in_full else replica_set.replica())

    # --- declared models

    @handles(GetDeclared)
    async def _get_declared(self, _: GetDeclared) -> DeclaredState:
        return self._declared.state()

    @handles(ReloadModels)
    async def _reload_models(self, request: ReloadModels) -> None:
        self._refuse_when_stopping()
        await self._declared.reload(request.models)

    @handles(RetryDeclared)
    async def _retry_declared(self, request: RetryDeclared) -> None:
        self._refuse_when_stopping()
        await self._declared.retry(request.name)

    # --- training

    @handles(StartTraining)
    async def _start_training(self, request: StartTraining) -> str:
        self._refuse_when_stopping()
        if request.deploy_to is not None:
            self._workspaces.get(request.deploy_to)
            self._declared.refuse_change(request.deploy_to)
        self._machines.check(Demand(resources=request.resources))
        return await self._trainings.start(request)

    @handles(CancelTask)
    async def _cancel_task(self, request: CancelTask) -> None:
        await self._trainings.cancel(request.task_id)

    @handles(FinishTask)
    async def _finish_task(self, request: FinishTask) -> None:
        self._trainings.finish(request.task_id)

    @handles(ResumeTask)
    async def _resume_task(self, request: ResumeTask) -> None:
        self._refuse_when_stopping()
        await self._trainings.resume(request.task_id)

    @handles(KeepFeedback)
    async def _keep_feedback(self, request: KeepFeedback) -> FeedbackKept:
        return await self._trainings.keep_feedback(request)

    # --- uploads

    @handles(DeleteUpload)
    async def _delete_upload(self, request: DeleteUpload) -> None:
        await self._uploads.delete(request.id)

    # --- limits

    def _refuse_when_stopping(self) -> None:
        if self.stopping:
            raise Stopping

    def _refuse_when_full(self, workspace: Workspace, owner: str) -> None:
        dispatcher, settings = workspace.dispatcher, self._settings
        if dispatcher.given_up_reason is not None:
            raise WorkspaceGivenUp(name=workspace.name, reason=dispatcher.given_up_reason)
        waiting = len(dispatcher.waiting) + workspace.submitting
        if waiting >= settings.max_queue:
            raise QueueFull(waiting=waiting, name=workspace.name, setting="max_queue")
        if waiting and dispatcher.waiting_bytes >= settings.max_queue_bytes:
            raise QueueFull(waiting=waiting, name=workspace.name, setting="max_queue_bytes")
        self._token_jobs.refuse_when_full(owner)


def _described(spare: Worker | None) -> dict[str, Any] | None:
    return {"pid": spare.child.pid, "memory_bytes": spare.child.use().memory_bytes} if spare is not None else None
