"""The endpoints of batches, of the results of deferred predictions, and of callbacks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.batch_formats import check_input
from tfserve.callback_addresses import check_callback
from tfserve.db import reads
from tfserve.db.job_json import job_detail
from tfserve.db.models import Job
from tfserve.errors import Invalid, NotFound, PathRefused
from tfserve.ipc.messages import (
    FINISHED,
    BatchJob,
    CancelJob,
    CancelModelJob,
    GetCallbackSecret,
    GetWorkspace,
    JobKind,
    JobState,
    SubmitModelJob,
    WaitOutput,
)
from tfserve.model_job_files import FOLDER, output_name, read_checkpoint
from tfserve.paths import resolve
from tfserve.uploads.store import PREFIX
from tfserve.web.api.deferred import new_folder, response_of
from tfserve.web.api.endpoint import WORKSPACES, Context, EndpointTable, Format, Tag
from tfserve.web.api.model_jobs.requests import Batch, CreateBatch, Secret
from tfserve.web.api.workspace.job_json import CancelResult
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.api.workspace.reading import JOB_ID, MAX_WAIT_S, OFFSET, WAIT, awaited_job, job_id, number, pieces
from tfserve.web.database_reads import read, read_accepted

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.PREDICT, Tag.BATCHES)
FOR_EVERY_SCOPE = EndpointTable(Format.ENVELOPE, None, Tag.BATCHES)

OF_WORKSPACE = "workspace:"
MEDIA = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}


@ENDPOINTS.post(
    "/batch/",
    CreateBatch,
    Batch,
    summary="run a model over a file of JSON lines, a CSV file, or a folder of images",
    returns="the batch; it continues after restarts, and every row has one line in the output, in order",
    submits_job=True,
    example={"name": "mobilenet", "input": "upload:0f31c2d4e5f60718293a4b5c6d7e8f90", "output": "csv"},
)
async def start_batch(context: Context, request: CreateBatch) -> dict[str, Any]:
    callback = check_callback(request.callback, context.settings)
    name = workspace_name(request.name)
    model = context.models.get(name, request.version)
    if request.signature is not None:
        model.signature(request.signature)
    path = await _input(context, name, request.input)
    format_ = await asyncio.to_thread(check_input, path, request.format)
    job = BatchJob(
        model=model.name,
        input=str(path),
        format=format_,
        output=request.output,
        version=request.version,
        signature=request.signature,
        batch_size=request.batch_size,
        max_errors=request.max_errors,
        columns=request.columns,
    )
    status = await context.line.ask(
        SubmitModelJob(
            model=model.name,
            request=job.encode(),
            folder=new_folder(),
            wait_s=request.timeout,
            idempotency_key=context.idempotency_key,
            owner=PRINCIPAL.get().owner,
            callback=callback,
        )
    )
    return batch_json(await read_accepted("The batch", f"/batch/{status.id}", reads.job_by_id, status.id))


@ENDPOINTS.get(
    "/batch/{id}",
    Batch,
    summary="get the progress of a batch",
    returns="the batch: state, done, total, errors, rows_per_s, time_left_s, output_bytes",
    parameters={"id": JOB_ID, "wait": WAIT},
)
async def get_batch(context: Context, request: Request) -> dict[str, Any]:
    return batch_json(require_batch(await awaited_job(context, request)))


@ENDPOINTS.get(
    "/batch/{id}/output",
    summary="download the output of a batch, while it grows or at the end",
    returns=(
        "the lines from offset on, in whole lines, with the headers X-Next-Offset and X-Job-State: a state that has"
        " ended means that no more lines follow"
    ),
    parameters={
        "id": JOB_ID,
        "offset": {**OFFSET, "description": "first byte to return"},
        "wait": {**WAIT, "description": "maximum seconds to wait for lines after the offset"},
    },
    media=tuple(MEDIA.values()),
)
async def read_batch_output(context: Context, request: Request) -> Response:
    job = require_batch(await read(reads.job_by_id, job_id(request)))
    offset = number(request.query_params.get("offset", "0"), "offset")
    wait_s = number(request.query_params.get("wait", "0"), "wait", most=MAX_WAIT_S)
    folder = job_folder(context, job)
    wait_until = time.monotonic() + wait_s
    while True:
        # The state is read before the size, so that a state that has ended goes with the last line.
        size = (await asyncio.to_thread(read_checkpoint, folder)).output_bytes
        left_s = wait_until - time.monotonic()
        if size > offset or job.state in FINISHED or left_s <= 0:
            break
        await context.line.ask(WaitOutput(job_id=job.pk, offset=0, wait_s=left_s))
        job = await read(reads.job_by_id, job.pk)
    form = _form(job)
    headers = {
        "Content-Length": str(max(0, size - offset)),
        "Content-Disposition": f'attachment; filename="batch-{job.pk}.{form}"',
        "X-Next-Offset": str(max(offset, size)),
        "X-Job-State": str(job.state),
        "X-Content-Type-Options": "nosniff",
    }
    content = pieces(folder / output_name(form), offset, size)
    return StreamingResponse(content, media_type=MEDIA[form], headers=headers)


@ENDPOINTS.get(
    "/jobs/{id}/result",
    summary="get the response of a deferred prediction, as the direct request would have returned it",
    returns="the response, with its media type and headers; the error of the prediction if it failed",
    parameters={"id": JOB_ID, "wait": WAIT},
    media=("application/json", "application/octet-stream", "image/png"),
)
async def get_job_response(context: Context, request: Request) -> Response:
    found = await response_of(context, await awaited_job(context, request))
    headers = {name.decode(): value.decode() for name, value in found.headers}
    return Response(found.body, found.status, headers)


@ENDPOINTS.post(
    "/jobs/{id}/cancel",
    result=CancelResult,
    summary="cancel a job that waits or runs",
    returns="the job, after it has ended; cancelled is true if this request ended it",
    parameters={"id": JOB_ID},
)
async def cancel_job_by_id(context: Context, request: Request) -> dict[str, Any]:
    with context.audit.action("cancel_job_by_id", {"id": request.path_params["id"]}):
        return await _cancel(context, await read(reads.job_by_id, job_id(request)))


@FOR_EVERY_SCOPE.get(
    "/callbacks/secret",
    Secret,
    summary="get the secret that signs the callbacks of your jobs",
    returns="{secret}: the key of the HMAC in X-TFserve-Signature; each token has its own",
)
async def get_callback_secret(context: Context, _: Request) -> Secret:
    """Jobs of every scope may have callbacks, also trainings."""
    return Secret(await context.line.ask(GetCallbackSecret(owner=PRINCIPAL.get().owner)))


ENDPOINTS += FOR_EVERY_SCOPE


# --- parts


async def _cancel(context: Context, job: Job) -> dict[str, Any]:
    if job.kind == JobKind.TRAIN:
        raise Invalid(f"Job {job.pk} is a training run. Cancel its task: POST /tasks/<taskId>/cancel.")
    state: JobState | None
    if job.workspace is not None:
        PRINCIPAL.get().require(Scope.SUBMIT)
        status = await context.line.ask(CancelJob(workspace=job.workspace.name, job=job.number))
        state = None if status is None else status.state
    else:
        state = await context.line.ask(CancelModelJob(job_id=job.pk))
    if state is None:  # it had already ended
        job = await read(reads.job_by_id, job.pk)
    return {
        "job": job.number, "id": job.pk, "state": state or job.state, "cancelled": state == JobState.CANCELLED,
    }  # fmt: skip


async def _input(context: Context, name: str, given: str) -> Path:
    """The path of an input that exists. Raises `NotFound`, `Invalid`, `PathRefused`, and those of uploads.

    A token that may only predict can name its uploads and the files of its workspaces, not other files of the server.
    """
    if given.startswith(OF_WORKSPACE):
        folder = Path((await context.line.ask(GetWorkspace(name=name)))["folder"])
        path = await asyncio.to_thread(resolve, given.removeprefix(OF_WORKSPACE), start=folder, roots=[folder])
    else:
        path = await context.path(given)
        if not given.startswith(PREFIX) and Scope.SUBMIT not in PRINCIPAL.get().scopes:
            _require_own(context, path, given)
    if not await asyncio.to_thread(path.exists):
        raise NotFound(f"input: {given[:200]!r} does not exist.")
    return path


async def stored_input(context: Context, path: Path) -> None:
    """Raises `NotFound`, `PathRefused` if the caller may not use the path that a batch was recorded with any more."""
    areas = (context.settings.uploads_path, context.settings.data_path / WORKSPACES)
    if not any(path.is_relative_to(area) for area in areas):
        await _input(context, "", str(path))
    elif not await asyncio.to_thread(path.exists) or not (PRINCIPAL.get().is_admin or await context.may_use(path)):
        raise NotFound(f"The input of this batch, {path.name!r}, has been deleted. Start a new batch: POST /batch/.")


def _require_own(context: Context, path: Path, given: str) -> None:
    """Raises `PathRefused` for a path outside of uploads and workspaces, whose visibility is checked already."""
    areas = (context.settings.uploads_path, context.settings.data_path / WORKSPACES)
    if not any(path.is_relative_to(area) for area in areas):
        raise PathRefused(path=given, roots=", ".join(map(str, areas)))


def batch_json(job: Job) -> dict[str, Any]:
    return job_detail(job) | {"output": f"/batch/{job.pk}/output"}


def require_batch(job: Job) -> Job:
    if job.kind != JobKind.BATCH:
        raise NotFound(f"Job {job.pk} is not a batch, but of kind {job.kind}. GET /jobs/{job.pk}/ returns it.")
    return job


def job_folder(context: Context, job: Job) -> Path:
    """The folder with the files of a deferred prediction or a batch."""
    return context.settings.data_path / FOLDER / job.model_job.folder


def _form(job: Job) -> str:
    """The format of the output."""
    return msgspec.json.decode(job.request or "{}", type=BatchJob).output
