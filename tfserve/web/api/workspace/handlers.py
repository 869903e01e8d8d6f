"""The request handlers of the workspace API: translate the request, ask the supervisor, translate its response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tfserve.config import Settings
from tfserve.db import reads, training_tasks
from tfserve.db.models import FINISHED, Job, Workspace
from tfserve.errors import Invalid, NoSuchWorkspace
from tfserve.ipc.messages import (
    CancelJob,
    ClearJob,
    CreateWorkspace,
    DeployJob,
    DestroyWorkspace,
    GetVariables,
    GetWorkspace,
    JobRequest,
    JobState,
    JobStatus,
    ListWorkspaces,
    PredictJob,
    RestartWorkspace,
    ScaleModel,
    ScriptJob,
    SetService,
    SubmitJob,
    UndeployJob,
    UpdateJob,
)
from tfserve.paths import resolve
from tfserve.web.api.workspace import requests, script_or_file
from tfserve.web.api.workspace.names import new_workspace_name, workspace_name
from tfserve.web.api.workspace.rendering import job_result, job_status, result_of
from tfserve.web.database_reads import read
from tfserve.web.predictions.live_models import Models
from tfserve.web.supervisor_client import SupervisorLine

TASK = "task:"


@dataclass(frozen=True)
class Context:
    """What a handler needs: the server's services and values from the request headers."""

    line: SupervisorLine
    models: Models
    settings: Settings
    start_folder: Path
    idempotency_key: str | None = None


# --- the service


async def create(context: Context, _: requests.Empty) -> bool:
    return await context.line.ask(SetService(on=True))


async def destroy(context: Context, _: requests.Empty) -> bool:
    return await context.line.ask(SetService(on=False))


# --- workspaces


async def create_workspace(context: Context, request: requests.CreateWorkspace) -> str:
    name = None if request.name is None else new_workspace_name(request.name)
    return await context.line.ask(CreateWorkspace(name=name, type=request.type))


async def destroy_workspace(context: Context, request: requests.DestroyWorkspace) -> bool:
    name = None if request.name is None else workspace_name(request.name)
    return await context.line.ask(DestroyWorkspace(name=name))


async def restart_workspace(context: Context, request: requests.OneWorkspace) -> bool:
    await context.line.ask(RestartWorkspace(name=workspace_name(request.name)))
    return True


async def get_workspace(context: Context, _: requests.Empty) -> list[str]:
    return await context.line.ask(ListWorkspaces())


async def get_status(context: Context, request: requests.OneWorkspace) -> dict[str, Any]:
    return await context.line.ask(GetWorkspace(name=workspace_name(request.name)))


# --- jobs


async def push_job(context: Context, request: requests.PushJob) -> dict[str, Any]:
    if request.type == 0:
        script_or_file.check_file(request.job, context.start_folder)
        job = ScriptJob(clear=request.clear, file=str(_path(context, request.job)))
    else:
        script_or_file.check_text(request.job, context.start_folder)
        job = ScriptJob(clear=request.clear, text=request.job)
    return await _submit(context, request, job)


async def clear(context: Context, request: requests.Clear) -> dict[str, Any]:
    return await _submit(context, request, ClearJob())


async def deploy(context: Context, request: requests.Deploy) -> dict[str, Any]:
    path = str(await _model_path(context, request.path))
    return await _submit(context, request, DeployJob(path=path, device=request.device, options=request.options))


async def scale(context: Context, request: requests.Scale) -> bool:
    await context.line.ask(ScaleModel(workspace=workspace_name(request.name), replicas=request.replicas))
    return True


async def update(context: Context, request: requests.Update) -> dict[str, Any]:
    path = str(await _model_path(context, request.path))
    return await _submit(context, request, UpdateJob(path=path, warm_up=request.warm_up))


async def undeploy(context: Context, request: requests.Undeploy) -> dict[str, Any]:
    return await _submit(context, request, UndeployJob())


async def predict(context: Context, request: requests.Predict) -> dict[str, Any]:
    fetches = [request.fetches] if isinstance(request.fetches, str) else request.fetches
    job = PredictJob(fetches=fetches, feed_dict=request.feed_dict, signature=request.signature)
    return await _submit(context, request, job)


async def cancel_job(context: Context, request: requests.CancelJob) -> dict[str, Any]:
    name = workspace_name(request.name)
    status = await context.line.ask(CancelJob(workspace=name, job=request.job))
    cancelled = status is not None and status.state == JobState.CANCELLED
    if status is None:  # it had already ended
        status = job_status(await _job_of(context, name, request.job), None)
    return {"job": status.job, "id": status.id, "state": status.state, "cancelled": cancelled}


# --- results


async def get_job(context: Context, request: requests.OneWorkspace) -> int:
    status = await context.line.ask(GetWorkspace(name=workspace_name(request.name)))
    return int(status["JOB_COUNT"])


async def get_finish(context: Context, request: requests.GetFinish) -> bool:
    return (await _job_of(context, request.name, request.job)).state in FINISHED


async def get_result(context: Context, request: requests.GetResult) -> msgspec.Raw | list[msgspec.Raw]:
    if request.job is not None:
        return result_of(await _job_of(context, request.name, request.job))
    workspace = await _workspace(context, request.name)
    limit_bytes = context.settings.max_response_bytes
    return [result_of(job) for job in await read(reads.finished_jobs, workspace, limit_bytes=limit_bytes)]


async def get_variable(context: Context, request: requests.GetVariable) -> msgspec.Raw | dict[str, msgspec.Raw]:
    wanted = request.variable
    names = [wanted] if isinstance(wanted, str) else wanted
    name = workspace_name(request.name)
    live = await context.line.ask(GetVariables(workspace=name, names=names))
    if live.complete:
        return msgspec.Raw(live.values)
    snapshot = await read(lambda: reads.snapshot(reads.workspace(name)))
    if names is None:
        return msgspec.Raw(snapshot.encode())
    return _choose(snapshot, names)


# --- parts


def _choose(snapshot: str, names: Sequence[str]) -> dict[str, msgspec.Raw]:
    known = msgspec.json.decode(snapshot, type=dict[str, msgspec.Raw])
    return {name: known.get(name, msgspec.Raw(b"null")) for name in names}


def _path(context: Context, path: str) -> Path:
    return resolve(path, start=context.start_folder, roots=context.settings.root_paths)


async def _model_path(context: Context, path: str) -> Path:
    """A path, or `task:<taskId>` for the model of a training task."""
    if path.startswith(TASK):
        path = await read(training_tasks.model_path, path.removeprefix(TASK))
    return _path(context, path)


async def _submit(context: Context, request: requests._Waits, job: JobRequest) -> dict[str, Any]:
    if request.time_limit is not None and not request.time_limit > 0:
        raise Invalid(f"time_limit must be more than 0 seconds, got {request.time_limit:g}", field="time_limit")
    name = workspace_name(request.name)
    status = await context.line.ask(
        SubmitJob(
            workspace=name,
            request=job.encode(),
            wait_s=request.timeout,
            time_limit_s=request.time_limit,
            idempotency_key=context.idempotency_key,
        )
    )
    if status.state in FINISHED and status.outcome is None:
        status = await read(_finished_status, name, status.id)
    return job_result(status)


def _finished_status(name: str, job_id: int) -> JobStatus:
    """A job that was submitted before, with the same idempotency key."""
    return job_status(reads.job_by_id(job_id), reads.snapshot(reads.workspace(name)))


async def _workspace(context: Context, name: str) -> Workspace:
    name = workspace_name(name)
    try:
        return await read(reads.workspace, name)
    except NoSuchWorkspace:
        await context.line.ask(
            GetWorkspace(name=name)
        )  # raises the more specific error, for example if the service is off
        raise


async def _job_of(context: Context, name: str, number: int | None) -> Job:
    return await read(reads.job, await _workspace(context, name), number)
