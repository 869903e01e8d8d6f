"""The endpoints that run a deferred prediction or a batch again, or continue a batch that has failed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.callback_addresses import check_callback
from tfserve.db import reads
from tfserve.db.job_json import job_detail
from tfserve.db.models import Job
from tfserve.durable_files import sync_folder, write_durably
from tfserve.errors import Conflict, Invalid
from tfserve.ipc.messages import FINISHED, BatchJob, EncodedRequest, JobKind, JobState, SubmitModelJob
from tfserve.model_job_files import CHECKPOINT, REQUEST, output_name, read_checkpoint
from tfserve.web.api.deferred import new_folder, write_request, written
from tfserve.web.api.endpoint import Context, EndpointTable, Format, Tag
from tfserve.web.api.json_requests import RequestReader
from tfserve.web.api.model_jobs.handlers import batch_json, job_folder, require_batch, stored_input
from tfserve.web.api.model_jobs.requests import Batch, ResumeBatch
from tfserve.web.api.routes import idempotency_key
from tfserve.web.api.workspace.job_json import JobDetail
from tfserve.web.api.workspace.reading import JOB_ID, job_id
from tfserve.web.database_reads import read, read_accepted
from tfserve.web.http.bodies import read_body

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.PREDICT, Tag.BATCHES)

_RESUME = RequestReader(ResumeBatch)
T = TypeVar("T")

COPY_BYTES = 1024 * 1024


class NotEnded(Conflict):
    """Job {id} is {state}. Only a job that has ended can be {done}. Wait for its end: GET /jobs/{id}/?wait=60."""


class RequestDeleted(Conflict):
    """The request of job {id} was deleted when it ended, because it is larger than 1 MiB. Send the request again."""


@ENDPOINTS.post(
    "/jobs/{id}/repeat",
    result=JobDetail,
    summary="run a deferred prediction or a batch again, from the beginning",
    returns="the new job, with the same request",
    parameters={"id": JOB_ID},
    submits_job=True,
)
async def repeat_job(context: Context, request: Request) -> dict[str, Any]:
    job = await read(reads.job_by_id, job_id(request))
    _require_ended(job, "repeated")
    context = replace(context, idempotency_key=idempotency_key(request.scope))
    if job.kind == JobKind.BATCH:
        return await _repeat_batch(context, job)
    if job.kind == JobKind.DEFERRED:
        return await _repeat_prediction(context, job)
    raise Invalid(
        f"Job {job.pk} is of kind {job.kind}. Only deferred predictions and batches can be repeated. Submit the job"
        " again with the request in GET /jobs/<id>/."
    )


@ENDPOINTS.post(
    "/batch/{id}/resume",
    ResumeBatch,
    Batch,
    summary="continue a batch that failed, was cancelled or was lost",
    returns="a new batch, which begins with the output of the old one and continues after its last row",
    parameters={"id": JOB_ID},
    submits_job=True,
    reads_body=True,
    example={"max_errors": 20},
)
async def resume_batch(context: Context, request: Request) -> dict[str, Any]:
    chosen = _RESUME.read(await read_body(request.scope, request.receive, context.settings), [])
    job = require_batch(await read(reads.job_by_id, job_id(request)))
    _require_ended(job, "resumed")
    if job.state == JobState.SUCCEEDED:
        raise Conflict(f"Batch {job.pk} has succeeded: all rows are done. POST /jobs/{job.pk}/repeat runs it again.")
    callback = check_callback(chosen.callback, context.settings)
    batch = msgspec.json.decode(job.request or "{}", type=BatchJob)
    old = job_folder(context, job)
    errors = (await asyncio.to_thread(read_checkpoint, old)).errors
    limit = batch.max_errors if chosen.max_errors is None else chosen.max_errors
    if limit is not None and errors > limit:
        raise Invalid(
            f"max_errors: batch {job.pk} has {errors} rows with errors, more than {limit}. Give a larger number.",
            field="max_errors",
        )
    batch = msgspec.structs.replace(batch, max_errors=limit, resumes=job.pk)
    await _require_runnable(context, batch)
    folder = new_folder()
    await written(context, folder, _begin_with, old, output_name(batch.output))
    submission = SubmitModelJob(
        model=batch.model, request=batch.encode(), folder=folder, wait_s=chosen.timeout, callback=callback,
        idempotency_key=idempotency_key(request.scope), owner=PRINCIPAL.get().owner,
    )  # fmt: skip
    status = await context.line.ask(submission)
    return batch_json(await read_accepted("The batch", f"/batch/{status.id}", reads.job_by_id, status.id))


# --- parts


async def _repeat_batch(context: Context, job: Job) -> dict[str, Any]:
    batch = msgspec.structs.replace(msgspec.json.decode(job.request or "{}", type=BatchJob), resumes=None)
    await _require_runnable(context, batch)
    return await _submitted(context, job, batch.encode(), new_folder())


async def _repeat_prediction(context: Context, job: Job) -> dict[str, Any]:
    context.models.get(job.model_job.model)
    try:
        body = await asyncio.to_thread((job_folder(context, job) / REQUEST).read_bytes)
    except FileNotFoundError:
        raise RequestDeleted(id=job.pk) from None
    folder = new_folder()
    digest = await written(context, folder, write_request, body)
    request = EncodedRequest(JobKind.DEFERRED, (job.request or "{}").encode())
    return await _submitted(context, job, request, folder, size=len(body), content_digest=digest)


async def _submitted(context: Context, job: Job, request: EncodedRequest, folder: str, **body: Any) -> dict[str, Any]:
    submission = SubmitModelJob(
        model=job.model_job.model, request=request, folder=folder, **body,
        idempotency_key=context.idempotency_key, owner=PRINCIPAL.get().owner,
    )  # fmt: skip
    status = await context.line.ask(submission)
    return job_detail(await read_accepted("The job", f"/jobs/{status.id}", reads.job_by_id, status.id))


def _require_ended(job: Job, done: str) -> None:
    if job.state not in FINISHED:
        raise NotEnded(id=job.pk, state=job.state, done=done)


async def _require_runnable(context: Context, batch: BatchJob) -> None:
    """Raises `NotFound`, `PathRefused`: the model and the input must still exist, and the caller may use them."""
    context.models.get(batch.model, batch.version)
    await stored_input(context, Path(batch.input))


def _begin_with(folder: Path, old: Path, name: str) -> None:
    """Copies the checkpoint of `old`, and its output up to there. Without an output, the first row comes next."""
    folder.mkdir(parents=True)
    checkpoint = read_checkpoint(old)
    if checkpoint.output_bytes and (old / name).exists():
        _copy(old / name, folder / name, checkpoint.output_bytes)
        write_durably(folder / CHECKPOINT, msgspec.json.encode(checkpoint))
    sync_folder(folder.parent)


def _copy(source: Path, target: Path, size: int) -> None:
    """The first `size` bytes, on the disk."""
    with source.open("rb") as read_from, target.open("xb") as write_to:
        while size and (piece := read_from.read(min(size, COPY_BYTES))):
            write_to.write(piece)
            size -= len(piece)
        write_to.flush()
        os.fsync(write_to.fileno())
