"""What each endpoint of the workspace API does: translate, ask, translate back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tfserve.config import Settings
from tfserve.control import queries, training
from tfserve.control.models import FINISHED, Job, Workspace
from tfserve.errors import Invalid, NoSuchWorkspace
from tfserve.ipc.messages import JobAnswer, JobKind, JobState, SubmitJob
from tfserve.paths import resolve
from tfserve.protocols.tfserve import requests, script_or_file
from tfserve.protocols.tfserve.names import new_workspace_name, workspace_name
from tfserve.protocols.tfserve.rendering import answer_of_row, job_result, result_of
from tfserve.serving.models import Models
from tfserve.serving.reads import read
from tfserve.serving.supervisor import SupervisorLine

TASK = "task:"


@dataclass(frozen=True)
class Context:
    """What a call needs to know: the server, and what the request's headers said."""

    line: SupervisorLine
    models: Models
    settings: Settings
    start_folder: Path
    idempotency_key: str | None = None


# --- the service


async def create(context: Context, _: requests.Empty) -> bool:
    return await context.line.turn_service(on=True)


async def destroy(context: Context, _: requests.Empty) -> bool:
    return await context.line.turn_service(on=False)


# --- workspaces


async def create_workspace(context: Context, request: requests.CreateWorkspace) -> str:
    name = None if request.name is None else new_workspace_name(request.name)
    return await context.line.create_workspace(name, request.type)


async def destroy_workspace(context: Context, request: requests.DestroyWorkspace) -> bool:
    name = None if request.name is None else workspace_name(request.name)
    return await context.line.destroy_workspace(name)


async def restart_workspace(context: Context, request: requests.OneWorkspace) -> bool:
    return await context.line.restart_workspace(workspace_name(request.name))


async def get_workspace(context: Context, _: requests.Empty) -> list[str]:
    return await context.line.workspace_names()


async def get_status(context: Context, request: requests.OneWorkspace) -> dict[str, Any]:
    return await context.line.workspace(workspace_name(request.name))


# --- jobs


async def push_job(context: Context, request: requests.PushJob) -> dict[str, Any]:
    job: dict[str, Any] = {"clear": request.clear}
    if request.type == 0:
        script_or_file.check_file(request.job, context.start_folder)
        job["file"] = str(_path(context, request.job))
    else:
        script_or_file.check_text(request.job, context.start_folder)
        job["text"] = request.job
    return await _submit(context, request, JobKind.SCRIPT, job)


async def clear(context: Context, request: requests.Clear) -> dict[str, Any]:
    return await _submit(context, request, JobKind.CLEAR, {})


async def deploy(context: Context, request: requests.Deploy) -> dict[str, Any]:
    path = str(await _model_path(context, request.path))
    job = {"path": path, "device": request.device, "options": request.options}
    return await _submit(context, request, JobKind.DEPLOY, job)


async def scale(context: Context, request: requests.Scale) -> bool:
    return await context.line.scale_model(workspace_name(request.name), request.replicas)


async def update(context: Context, request: requests.Update) -> dict[str, Any]:
    job = {"path": str(await _model_path(context, request.path)), "warm_up": request.warm_up}
    return await _submit(context, request, JobKind.UPDATE, job)


async def undeploy(context: Context, request: requests.Undeploy) -> dict[str, Any]:
    return await _submit(context, request, JobKind.UNDEPLOY, {})


async def predict(context: Context, request: requests.Predict) -> dict[str, Any]:
    fetches = [request.fetches] if isinstance(request.fetches, str) else request.fetches
    job = {"fetches": fetches, "feed_dict": request.feed_dict, "signature": request.signature}
    return await _submit(context, request, JobKind.PREDICT, job)


async def cancel_job(context: Context, request: requests.CancelJob) -> dict[str, Any]:
    name = workspace_name(request.name)
    answer = await context.line.cancel(name, request.job)
    cancelled = answer is not None and answer.state == JobState.CANCELLED
    if answer is None:  # it had ended before
        answer = answer_of_row(await _job_of(context, name, request.job), None)
    return {"job": answer.job, "id": answer.id, "state": answer.state, "cancelled": cancelled}


# --- what became of them


async def get_job(context: Context, request: requests.OneWorkspace) -> int:
    status = await context.line.workspace(workspace_name(request.name))
    return int(status["JOB_COUNT"])


async def get_finish(context: Context, request: requests.GetFinish) -> bool:
    return (await _job_of(context, request.name, request.job)).state in FINISHED


async def get_result(context: Context, request: requests.GetResult) -> msgspec.Raw | list[msgspec.Raw]:
    if request.job is not None:
        return result_of(await _job_of(context, request.name, request.job))
    workspace = await _workspace(context, request.name)
    limit_bytes = context.settings.max_response_bytes
    return [result_of(job) for job in await read(queries.finished_jobs, workspace, limit_bytes=limit_bytes)]


async def get_variable(context: Context, request: requests.GetVariable) -> msgspec.Raw | dict[str, msgspec.Raw]:
    wanted = request.variable
    names = [wanted] if isinstance(wanted, str) else wanted
    name = workspace_name(request.name)
    live = await context.line.variables(name, names)
    if live.complete:
        return msgspec.Raw(live.values)
    snapshot = await read(lambda: queries.snapshot(queries.workspace(name)))
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
    """A path, or `task:<taskId>` for the model that a training task has made."""
    if path.startswith(TASK):
        path = await read(training.model_path, path.removeprefix(TASK))
    return _path(context, path)


async def _submit(context: Context, request: requests._Waits, kind: JobKind, job: dict[str, Any]) -> dict[str, Any]:
    if request.time_limit is not None and not request.time_limit > 0:
        raise Invalid(f"time_limit must be more than 0 seconds, {request.time_limit:g} was given", field="time_limit")
    name = workspace_name(request.name)
    answer = await context.line.submit(
        SubmitJob(
            workspace=name,
            kind=kind,
            request=msgspec.json.encode(job),
            wait_s=request.timeout,
            time_limit_s=request.time_limit,
            idempotency_key=context.idempotency_key,
        )
    )
    if answer.state in FINISHED and answer.error is None and answer.result is None:
        answer = await _ended_before(name, answer)
    return job_result(answer)


async def _ended_before(name: str, answer: JobAnswer) -> JobAnswer:
    """A job whose idempotency key came before and which has ended since."""

    def look() -> JobAnswer:
        return answer_of_row(queries.job_by_id(answer.id), queries.snapshot(queries.workspace(name)))

    return await read(look)


async def _workspace(context: Context, name: str) -> Workspace:
    name = workspace_name(name)
    try:
        return await read(queries.workspace, name)
    except NoSuchWorkspace:
        await context.line.workspace(name)  # knows better why not: the service may be off
        raise


async def _job_of(context: Context, name: str, number: int | None) -> Job:
    return await read(queries.job, await _workspace(context, name), number)
