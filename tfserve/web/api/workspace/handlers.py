"""The endpoints of the workspace API: translate the request, send it to the supervisor, translate the response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.callback_addresses import check_callback
from tfserve.db import reads, training_tasks
from tfserve.errors import Invalid
from tfserve.ipc.messages import (
    FINISHED,
    CancelJob,
    ClearJob,
    CreateWorkspace,
    DeployJob,
    DestroyWorkspace,
    GetWorkspace,
    JobRequest,
    JobState,
    JobStatus,
    ListWorkspaces,
    PredictJob,
    RestartWorkspace,
    ScriptJob,
    SetService,
    SubmitJob,
    UndeployJob,
)
from tfserve.web.api.endpoint import Context, EndpointTable, Format, Tag
from tfserve.web.api.workspace import job_json, requests, script_or_file
from tfserve.web.api.workspace.job_json import job_result, job_status
from tfserve.web.api.workspace.names import new_workspace_name, workspace_name
from tfserve.web.api.workspace.results import job_of
from tfserve.web.database_reads import read, read_accepted
from tfserve.web.http.request_ids import traceparent

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.SUBMIT, Tag.WORKSPACES)

TASK = "task:"


@ENDPOINTS.post(
    "/json_test/",
    msgspec.Raw,
    summary="echo the request, to check that it is sent correctly",
    returns="the same JSON",
    scope=Scope.PREDICT,
    tag=Tag.SERVER,
    example={"any": ["JSON", 1.5, None]},
)
async def echo_json(_: Context, request: msgspec.Raw) -> msgspec.Raw:
    return request


# --- the service


@ENDPOINTS.post(
    "/create/",
    requests.Empty,
    bool,
    summary="turn the workspace service on",
    returns="true if it was off; the service is on when the server starts",
    scope=Scope.ADMIN,
)
async def start_service(context: Context, _: requests.Empty) -> bool:
    return await context.line.ask(SetService(on=True))


@ENDPOINTS.post(
    "/destroy/",
    requests.Empty,
    bool,
    summary="turn the workspace service off and destroy every workspace",
    returns="true if it was on; until /create/, workspace requests fail with 409",
    scope=Scope.ADMIN,
)
async def stop_service(context: Context, _: requests.Empty) -> bool:
    return await context.line.ask(SetService(on=False))


# --- workspaces


@ENDPOINTS.post(
    "/create_workspace/",
    requests.CreateWorkspace,
    str,
    summary="create a workspace: an isolated Python session with its own job queue",
    returns="the name of the workspace",
    example={"name": "first"},
)
async def create_workspace(context: Context, request: requests.CreateWorkspace) -> str:
    if request.name is None or not PRINCIPAL.get().sees_workspace(request.name):
        PRINCIPAL.get().require_all_workspaces()
    name = None if request.name is None else new_workspace_name(request.name)
    resources = request.resources.needed() if request.resources is not None else {}
    return await context.line.ask(
        CreateWorkspace(name=name, type=request.type, limits=request.own_limits, resources=resources)
    )


@ENDPOINTS.post(
    "/destroy_workspace/",
    requests.DestroyWorkspace,
    bool,
    summary="destroy a workspace, or all workspaces, including jobs, files and model",
    returns="true if something was destroyed",
    example={"name": "first"},
)
async def destroy_workspace(context: Context, request: requests.DestroyWorkspace) -> bool:
    if request.name is None:
        PRINCIPAL.get().require_all_workspaces()
    name = None if request.name is None else workspace_name(request.name)
    return await context.line.ask(DestroyWorkspace(name=name))


@ENDPOINTS.post(
    "/restart_workspace/",
    requests.OneWorkspace,
    bool,
    summary="restart a workspace: cancels the running job, deletes variables, keeps queue and model",
    returns="true",
    example={"name": "first"},
)
async def restart_workspace(context: Context, request: requests.OneWorkspace) -> bool:
    await context.line.ask(RestartWorkspace(name=workspace_name(request.name)))
    return True


@ENDPOINTS.post(
    "/get_workspace/",
    requests.Empty,
    list[str],
    summary="list the workspaces",
    returns="the names of the workspaces",
    scope=Scope.PREDICT,
)
async def list_workspaces(context: Context, _: requests.Empty) -> list[str]:
    names = await context.line.ask(ListWorkspaces())
    return PRINCIPAL.get().visible(names)


@ENDPOINTS.post(
    "/get_status/",
    requests.OneWorkspace,
    job_json.Status,
    summary="get the status of a workspace",
    returns=(
        "STATUS is INITIAL (starting or restarting), IDLE, BUSY or EXCEPT (failed after repeated crashes); "
        "CUR_JOB_NUM the current or last started job, FIN_JOB_NUM the last finished one (-1 before the "
        "first), JOB_COUNT the number of queued jobs; also folder, pid, memory and deployment"
    ),
    scope=Scope.PREDICT,
    example={"name": "first"},
)
async def get_status(context: Context, request: requests.OneWorkspace) -> dict[str, Any]:
    return await context.line.ask(GetWorkspace(name=workspace_name(request.name)))


# --- jobs


@ENDPOINTS.post(
    "/push_job/",
    requests.PushJob,
    job_json.ScriptResult,
    summary="run a Python file or script in a workspace",
    returns=(
        "the job: finish is true if it ended within the timeout, result is true if it succeeded, variable "
        "has the script's variables; error has type, message and traceback if the script raised an exception"
    ),
    submits_job=True,
    tag=Tag.JOBS,
    example={"name": "first", "job": "x = 6 * 7\nprint(x)", "type": 1, "timeout": 60},
)
async def push_job(context: Context, request: requests.PushJob) -> dict[str, Any]:
    resources = request.resources.needed() if request.resources is not None else {}
    if request.type == 0:
        script_or_file.check_file(request.job, context.start_folder)
        job = ScriptJob(clear=request.clear, file=str(await context.path(request.job)), resources=resources)
    else:
        script_or_file.check_text(request.job, context.start_folder)
        job = ScriptJob(clear=request.clear, text=request.job, resources=resources)
    return await _submit(context, request, job)


@ENDPOINTS.post(
    "/clear/",
    requests.Clear,
    job_json.JobResult,
    summary="delete all variables of a workspace",
    returns="the job",
    submits_job=True,
    tag=Tag.JOBS,
    example={"name": "first", "timeout": 10},
)
async def clear_variables(context: Context, request: requests.Clear) -> dict[str, Any]:
    return await _submit(context, request, ClearJob())


@ENDPOINTS.post(
    "/deploy/",
    requests.Deploy,
    job_json.DeployResult,
    summary="load a model, replacing the deployed one",
    returns="the job, with the model's version, format, signatures and remarks (notes for users of the model)",
    submits_job=True,
    tag=Tag.MODELS,
    example={"name": "first", "path": "models/half.onnx", "timeout": 120},
)
async def deploy_model(context: Context, request: requests.Deploy) -> dict[str, Any]:
    path = str(await _model_path(context, request.path))
    return await _submit(context, request, DeployJob(path=path, device=request.device, options=request.options))


@ENDPOINTS.post(
    "/scale/",
    requests.Scale,
    bool,
    summary="change the number of processes that serve the deployed model, or its autoscaling, without interruption",
    returns="true, once that many processes are serving",
    tag=Tag.MODELS,
    example={"name": "first", "replicas": 2},
)
async def scale_model(context: Context, request: requests.Scale) -> bool:
    await context.line.ask(request.message(workspace_name(request.name)))
    return True


@ENDPOINTS.post(
    "/update/",
    requests.Update,
    job_json.DeployResult,
    summary="swap new weights or a new version into the deployed model without dropping a request",
    returns="the job, with the model's version, format, signatures and remarks (notes for users of the model)",
    submits_job=True,
    tag=Tag.MODELS,
    example={"name": "first", "path": "models/half-and-three.onnx", "timeout": 120},
)
async def update_model(context: Context, request: requests.Update) -> dict[str, Any]:
    path = str(await _model_path(context, request.path))
    return await _submit(context, request, request.job(path))


@ENDPOINTS.post(
    "/undeploy/",
    requests.Undeploy,
    job_json.UndeployResult,
    summary="unload the model and release its memory",
    returns="the job, with the amount of memory released",
    submits_job=True,
    tag=Tag.MODELS,
    example={"name": "first", "timeout": 60},
)
async def undeploy_model(context: Context, request: requests.Undeploy) -> dict[str, Any]:
    return await _submit(context, request, UndeployJob())


@ENDPOINTS.post(
    "/predict/",
    requests.Predict,
    job_json.JobResult,
    summary="run the deployed model on input data",
    returns="the job; its result is a list with one value per fetched tensor, in order",
    submits_job=True,
    scope=Scope.PREDICT,
    tag=Tag.MODELS,
    example={"name": "first", "fetches": ["y"], "feed_dict": {"x": [[1.0, 2.0]]}, "timeout": 10},
)
async def predict_tensors(context: Context, request: requests.Predict) -> dict[str, Any]:
    fetches = [request.fetches] if isinstance(request.fetches, str) else request.fetches
    job = PredictJob(fetches=fetches, feed_dict=request.feed_dict, signature=request.signature)
    return await _submit(context, request, job)


@ENDPOINTS.post(
    "/cancel_job/",
    requests.CancelJob,
    job_json.CancelResult,
    summary="cancel a queued or running job",
    returns="the job, after it has ended; cancelled is true if this request ended it",
    tag=Tag.JOBS,
    example={"name": "first", "job": 0},
)
async def cancel_job(context: Context, request: requests.CancelJob) -> dict[str, Any]:
    name = workspace_name(request.name)
    status = await context.line.ask(CancelJob(workspace=name, job=request.job))
    cancelled = status is not None and status.state == JobState.CANCELLED
    if status is None:  # it had already ended
        status = job_status(await job_of(context, name, request.job), None)
    return {"job": status.job, "id": status.id, "state": status.state, "cancelled": cancelled}


# --- parts


async def _model_path(context: Context, path: str) -> Path:
    """A path, or `task:<taskId>` for the model of a training task."""
    if path.startswith(TASK):
        path = await read(training_tasks.model_path, path.removeprefix(TASK))
    return await context.path(path)


async def _submit(context: Context, request: requests._Waits | requests.Deploy, job: JobRequest) -> dict[str, Any]:
    if request.time_limit is not None and not request.time_limit > 0:
        raise Invalid(f"time_limit must be more than 0 seconds, got {request.time_limit:g}", field="time_limit")
    name = workspace_name(request.name)
    callback = check_callback(request.callback, context.settings)
    status = await context.line.ask(
        SubmitJob(
            workspace=name,
            request=job.encode(),
            wait_s=request.timeout,
            time_limit_s=request.time_limit,
            idempotency_key=context.idempotency_key,
            owner=PRINCIPAL.get().owner,
            callback=callback,
            traceparent=traceparent(context.settings),
        )
    )
    if status.state in FINISHED and status.outcome is None:
        status = await read_accepted("The job", f"/jobs/{status.id}", _finished_status, name, status.id)
    return job_result(status)


def _finished_status(name: str, job_id: int) -> JobStatus:
    """A job that was submitted before, with the same idempotency key."""
    return job_status(reads.job_by_id(job_id), reads.snapshot(reads.workspace(name)))
