"""What web may ask of the supervisor, and who answers it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from tfserve import __version__
from tfserve.config import Settings
from tfserve.db import writes
from tfserve.errors import QueueFull, Stopping, Unavailable, Unsupported, WorkspaceGivenUp
from tfserve.ipc.messages import (
    CancelJob,
    CancelTask,
    CreateWorkspace,
    DestroyWorkspace,
    Done,
    GetServer,
    GetVariables,
    GetWorkspace,
    IsReady,
    JobAnswer,
    JobKind,
    KeepFeedback,
    ListWorkspaces,
    Message,
    RestartWorkspace,
    ResumeTask,
    ScaleModel,
    StartTraining,
    SubmitJob,
    TurnService,
    Variables,
    WaitChange,
    WaitOutput,
    WakeModel,
)
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.training_queue import Trainings
from tfserve.supervisor.models.deployment import DEFAULT_DEVICE
from tfserve.supervisor.processes.worker import Spare
from tfserve.supervisor.workspace import Workspace, memory_bytes
from tfserve.supervisor.workspaces import Workspaces


class Requests:
    """Answers web's questions, each kind by one method."""

    def __init__(
        self,
        settings: Settings,
        *,
        workspaces: Workspaces,
        trainings: Trainings,
        journal: Journal,
        spare: Spare,
        changed: Revision,
    ) -> None:
        self.stopping = False
        self._settings = settings
        self._workspaces = workspaces
        self._journal = journal
        self._spare = spare
        self._changed = changed
        self._trainings = trainings
        self._started_at = time.time()
        self._answers: dict[type, Callable[[Any], Awaitable[Message]]] = {
            GetServer: self._get_server,
            IsReady: self._is_ready,
            ListWorkspaces: self._list_workspaces,
            TurnService: self._turn_service,
            CreateWorkspace: self._create_workspace,
            DestroyWorkspace: self._destroy_workspace,
            RestartWorkspace: self._restart_workspace,
            GetWorkspace: self._get_workspace,
            SubmitJob: self._submit,
            CancelJob: self._cancel,
            GetVariables: self._get_variables,
            StartTraining: self._start_training,
            CancelTask: self._cancel_task,
            ResumeTask: self._resume_task,
            KeepFeedback: self._keep_feedback,
            WaitOutput: self._wait_output,
            WaitChange: self._wait_change,
            ScaleModel: self._scale_model,
            WakeModel: self._wake_model,
        }

    async def answer(self, message: Message) -> Message:
        answer = self._answers.get(type(message))
        if answer is None:
            raise Unsupported(f"the supervisor does not answer {type(message).__name__}")
        return await answer(message)

    # --- the server

    async def _get_server(self, _: GetServer) -> Message:
        spare = self._spare.worker
        return Done(
            value={
                "version": __version__,
                "pid": os.getpid(),
                "ready": not self.stopping,
                "on": self._workspaces.on,
                "started_at": self._started_at,
                "revision": self._changed.number,
                "spare": {"pid": spare.child.pid, "memory_bytes": memory_bytes(spare.child.pid)} if spare else None,
                "memory_bytes": memory_bytes(os.getpid()),
                "data_dir": str(self._settings.data_path),
                "roots": [str(root) for root in self._settings.root_paths],
                "workspaces": [workspace.describe() for workspace in self._workspaces],
            }
        )

    async def _is_ready(self, _: IsReady) -> Message:
        return Done(value=not self.stopping and await self._journal.is_ready())

    async def _list_workspaces(self, _: ListWorkspaces) -> Message:
        self._workspaces.require_on()
        return Done(value=[workspace.name for workspace in self._workspaces])

    async def _turn_service(self, message: TurnService) -> Message:
        was_on = self._workspaces.on
        self._workspaces.on = message.on
        if was_on and not message.on:
            await self._workspaces.destroy(None)
        self._changed.fire()
        return Done(value=was_on != message.on)

    async def _wait_change(self, message: WaitChange) -> Message:
        if self._changed.number == message.since:
            self._refuse_when_stopping()
            await self._changed.wait(message.wait_s)
        return Done(value=self._changed.number)

    # --- workspaces

    async def _create_workspace(self, message: CreateWorkspace) -> Message:
        self._refuse_when_stopping()
        return Done(value=await self._workspaces.create(message.name, message.type))

    async def _destroy_workspace(self, message: DestroyWorkspace) -> Message:
        self._workspaces.require_on()
        return Done(value=await self._workspaces.destroy(message.name))

    async def _restart_workspace(self, message: RestartWorkspace) -> Message:
        self._refuse_when_stopping()
        await self._workspaces.restart(message.name)
        return Done(value=True)

    async def _get_workspace(self, message: GetWorkspace) -> Message:
        return Done(value=self._workspaces.get(message.name).describe())

    async def _get_variables(self, message: GetVariables) -> Message:
        """Empty and incomplete, when the snapshot in the database is all there is."""
        workspace = self._workspaces.get(message.workspace)
        live = await workspace.scripts.read_variables(message.names, self._settings.max_response_bytes)
        return live or Variables(values=b"", complete=False)

    # --- jobs

    async def _submit(self, message: SubmitJob) -> Message:
        asked_at = time.monotonic()
        workspace = self._workspaces.get(message.workspace)
        self._refuse_when_stopping()
        try:
            self._refuse_when_full(workspace)
            recorded = await self._record(workspace, message)
        except Unavailable:  # but what was accepted before is still accepted
            known = await self._known(workspace, message)
            if known is None:
                raise
            recorded = known
        job = self._new_job(workspace, message, recorded) if recorded.is_new else self._workspaces.jobs.get(recorded.id)
        if job is None:  # its key is known and it has ended: web finds the rest in the database
            return JobAnswer(job=recorded.number, id=recorded.id, kind=message.kind, state=recorded.state, waited_s=0.0)
        if message.wait_s > 0:
            await job.wait(message.wait_s)
        return job.answer(waited_s=time.monotonic() - asked_at)

    async def _known(self, workspace: Workspace, message: SubmitJob) -> writes.Recorded | None:
        if message.idempotency_key is None:
            return None
        return await self._journal.change(partial(writes.known, _submission(workspace, message)))

    async def _record(self, workspace: Workspace, message: SubmitJob) -> writes.Recorded:
        started = workspace.dispatcher.idle and not workspace.submitting
        workspace.submitting += 1
        try:
            return await self._journal.submit(_submission(workspace, message, started=started))
        finally:
            workspace.submitting -= 1

    def _new_job(self, workspace: Workspace, message: SubmitJob, recorded: writes.Recorded) -> Job:
        job = Job(
            id=recorded.id,
            number=recorded.number,
            kind=message.kind,
            request=message.request,
            attempts=int(recorded.is_started),
            time_limit_s=message.time_limit_s,
            output=self._workspaces.new_output(workspace, recorded.number),
            started=recorded.is_started,
        )
        self._workspaces.put(workspace, job)
        return job

    async def _cancel(self, message: CancelJob) -> Message:
        workspace = self._workspaces.get(message.workspace)
        job = await workspace.dispatcher.end(message.job)
        return Done() if job is None else job.answer(waited_s=0.0)

    async def _scale_model(self, message: ScaleModel) -> Message:
        self._refuse_when_stopping()
        await self._workspaces.get(message.workspace).model.replica_set.scale(message.replicas)
        return Done()

    async def _wake_model(self, message: WakeModel) -> Message:
        await self._workspaces.get(message.workspace).model.replica_set.full_replica()
        return Done()

    async def _start_training(self, message: StartTraining) -> Message:
        self._refuse_when_stopping()
        if message.deploy_to is not None:
            self._workspaces.get(message.deploy_to)
        return Done(value=await self._trainings.start(message))

    async def _cancel_task(self, message: CancelTask) -> Message:
        await self._trainings.cancel(message.task_id)
        return Done()

    async def _resume_task(self, message: ResumeTask) -> Message:
        self._refuse_when_stopping()
        await self._trainings.resume(message.task_id)
        return Done()

    async def _keep_feedback(self, message: KeepFeedback) -> Message:
        return await self._trainings.keep_feedback(message)

    async def deploy(self, workspace: str, path: str) -> None:
        """Queues a deployment; what becomes of it is told by the workspace."""
        request = msgspec.json.encode({"path": path, "device": DEFAULT_DEVICE})
        await self._submit(SubmitJob(workspace=workspace, kind=JobKind.DEPLOY, request=request))

    async def _wait_output(self, message: WaitOutput) -> Message:
        job = self._workspaces.jobs.get(message.job_id) or self._trainings.jobs.get(message.job_id)
        if job is None:
            return Done(value=True)
        if job.output.size <= message.offset and not job.ended.done():
            if job.postponed.done():
                raise job.postponed.result()
            await job.output.grew.wait(message.wait_s)
        return Done(value=job.ended.done())

    def _refuse_when_stopping(self) -> None:
        if self.stopping:
            raise Stopping

    def _refuse_when_full(self, workspace: Workspace) -> None:
        dispatcher, settings = workspace.dispatcher, self._settings
        if dispatcher.given_up_reason is not None:
            raise WorkspaceGivenUp(name=workspace.name, reason=dispatcher.given_up_reason)
        waiting = len(dispatcher.waiting) + workspace.submitting
        if waiting >= settings.max_queue:
            raise QueueFull(waiting=waiting, name=workspace.name, setting="max_queue")
        if waiting and dispatcher.waiting_bytes >= settings.max_queue_bytes:
            raise QueueFull(waiting=waiting, name=workspace.name, setting="max_queue_bytes")


def _submission(workspace: Workspace, message: SubmitJob, *, started: bool = False) -> writes.Submission:
    return writes.Submission(
        workspace_id=workspace.id,
        workspace_name=workspace.name,
        kind=message.kind,
        request=message.request,
        time_limit_s=message.time_limit_s,
        idempotency_key=message.idempotency_key,
        started=started,
    )
