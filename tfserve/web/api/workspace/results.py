"""The endpoints that read results: how many jobs wait, whether one has finished, what it returned, and variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tfserve.access.principals import Scope
from tfserve.db import reads
from tfserve.db.models import Job, Workspace
from tfserve.errors import NoSuchWorkspace
from tfserve.ipc.messages import FINISHED, GetVariables, GetWorkspace
from tfserve.web.api.endpoint import Context, EndpointTable, Format, Tag
from tfserve.web.api.workspace import requests
from tfserve.web.api.workspace.job_json import result_of
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.database_reads import read

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.PREDICT, Tag.JOBS)


@ENDPOINTS.post(
    "/get_job/",
    requests.OneWorkspace,
    int,
    summary="count the queued jobs",
    returns="number of queued jobs",
    example={"name": "first"},
)
async def count_jobs(context: Context, request: requests.OneWorkspace) -> int:
    status = await context.line.ask(GetWorkspace(name=workspace_name(request.name)))
    return int(status["JOB_COUNT"])


@ENDPOINTS.post(
    "/get_finish/",
    requests.GetFinish,
    bool,
    summary="check whether a job has finished",
    returns="true if it has finished, with any outcome",
    example={"name": "first", "job": 0},
)
async def check_job(context: Context, request: requests.GetFinish) -> bool:
    return (await job_of(context, request.name, request.job)).state in FINISHED


@ENDPOINTS.post(
    "/get_result/",
    requests.GetResult,
    Any,
    summary="get the result of one job, or of all finished jobs",
    returns="the job's result (null while it is running), or the results of all finished jobs in job-number order",
    example={"name": "first", "job": 0},
)
async def get_result(context: Context, request: requests.GetResult) -> msgspec.Raw | list[msgspec.Raw]:
    if request.job is not None:
        return result_of(await job_of(context, request.name, request.job))
    workspace = await _workspace(context, request.name)
    limit_bytes = context.settings.max_response_bytes
    return [result_of(job) for job in await read(reads.finished_jobs, workspace, limit_bytes=limit_bytes)]


@ENDPOINTS.post(
    "/get_variable/",
    requests.GetVariable,
    dict[str, Any],
    summary="get variables of a workspace",
    returns=(
        "{name: value}, null for a name that is not set; the full value while the workspace is idle, "
        "otherwise from the snapshot of the last finished script"
    ),
    tag=Tag.WORKSPACES,
    example={"name": "first", "variable": ["x"]},
)
async def get_variables(context: Context, request: requests.GetVariable) -> msgspec.Raw | dict[str, msgspec.Raw]:
    names = [request.variable] if isinstance(request.variable, str) else request.variable
    name = workspace_name(request.name)
    live = await context.line.ask(GetVariables(workspace=name, names=names))
    if live.complete:
        return msgspec.Raw(live.values)
    snapshot = await read(lambda: reads.snapshot(reads.workspace(name)))
    if names is None:
        return msgspec.Raw(snapshot.encode())
    return _choose(snapshot, names)


# --- parts


async def job_of(context: Context, name: str, number: int | None) -> Job:
    """The job with this number, or the last one. Raises `NoSuchWorkspace`, `NoSuchJob`, `JobNoLongerKept`."""
    return await read(reads.job, await _workspace(context, name), number)


async def _workspace(context: Context, name: str) -> Workspace:
    name = workspace_name(name)
    try:
        return await read(reads.workspace, name)
    except NoSuchWorkspace:
        await context.line.ask(
            GetWorkspace(name=name)
        )  # raises the more specific error, for example if the service is off
        raise


def _choose(snapshot: str, names: Sequence[str]) -> dict[str, msgspec.Raw]:
    known = msgspec.json.decode(snapshot, type=dict[str, msgspec.Raw])
    return {name: known.get(name, msgspec.Raw(b"null")) for name in names}
