"""Deferred predictions: the request is recorded as a job instead of being computed while the client waits."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson
from msgspec.structs import replace
from starlette.types import Receive, Scope

from tfserve.access.principals import PRINCIPAL
from tfserve.callback_addresses import check_callback
from tfserve.db import reads
from tfserve.db.models import Job, ModelJob
from tfserve.durable_files import sync_folder, write_durably
from tfserve.errors import Conflict, Failure, NotFound, OutOfSpace, TFserveError, Unavailable, from_failure
from tfserve.ipc.messages import FINISHED, DeferredJob, JobKind, JobState, JobStatus, SubmitModelJob
from tfserve.model_job_files import FOLDER, REQUEST, RESPONSE, Responded
from tfserve.web.api.endpoint import Context
from tfserve.web.api.routes import idempotency_key
from tfserve.web.database_reads import read_accepted
from tfserve.web.http.bodies import read_body
from tfserve.web.http.prefer import Deferral
from tfserve.web.http.responses import JSON_TYPE, RestResponse
from tfserve.web.predictions.live_models import Model

T = TypeVar("T")

CALLBACK_HEADER = b"x-tfserve-callback"
LENGTH_HEADER = b"inference-header-content-length"
KEPT_HEADERS = (b"content-type", LENGTH_HEADER, b"priority", b"request-timeout")
"""The headers on which the response depends."""
CODES: dict[str, type[TFserveError]] = {"cancelled": Conflict, "lost": Unavailable}
"""The errors for the codes that only jobs have."""


class NoResponseYet(Conflict):
    """Job {id} is {state}, so it has no response yet. Wait for it: GET /jobs/{id}/?wait=60."""


async def defer(
    context: Context, scope: Scope, receive: Receive, model: Model, protocol: str, deferral: Deferral
) -> RestResponse:
    """The job as 202, or what the direct request would have returned if that is known within the client's time.

    Raises `Overloaded`, `OutOfSpace`, `Invalid`, and within the client's time the errors of the prediction.
    """
    callback = _callback(context, scope)
    body = await read_body(scope, receive, context.settings, model.max_body_bytes)
    folder = new_folder()
    digest = await written(context, folder, write_request, body)
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in KEPT_HEADERS}
    job = DeferredJob(
        protocol=protocol,
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
    )
    status = await context.line.ask(
        SubmitModelJob(
            model=model.name,
            request=job.encode(),
            folder=folder,
            size=len(body),
            content_digest=digest,
            wait_s=deferral.wait_s,
            idempotency_key=idempotency_key(scope),
            owner=PRINCIPAL.get().owner,
            callback=callback,
        )
    )
    applied = (b"preference-applied", deferral.applied)
    if deferral.wait_s and status.state in FINISHED:
        path = f"/jobs/{status.id}/result"
        job_row = await read_accepted("The prediction", path, reads.job_by_id, status.id)
        answer = await response_of(context, job_row)
        return replace(answer, headers=(*answer.headers, applied))
    return _accepted(status, applied)


async def response_of(context: Context, job: Job) -> RestResponse:
    """What the direct request would have returned. Raises its error, `NoResponseYet`, `NotFound`."""
    row: ModelJob | None = getattr(job, "model_job", None)
    if row is None or job.kind != JobKind.DEFERRED:
        raise NotFound(f"Job {job.pk} is not a deferred prediction. GET /jobs/{job.pk}/ has its result.")
    if job.state != JobState.SUCCEEDED:
        raise _error_of(job)
    detail = msgspec.json.decode(job.outcome.detail or "{}", type=Responded)
    try:
        body = await asyncio.to_thread((context.settings.data_path / FOLDER / row.folder / RESPONSE).read_bytes)
    except FileNotFoundError:
        raise NotFound(f"The response of job {job.pk} has been deleted, because it is too old.") from None
    headers = [(b"content-type", detail.content_type.encode())]
    if detail.inference_header_content_length is not None:
        headers.append((LENGTH_HEADER, b"%d" % detail.inference_header_content_length))
    return RestResponse(body, tuple(headers))


def new_folder() -> str:
    """The name of a folder for the files of a new job."""
    return secrets.token_hex(16)


def _callback(context: Context, scope: Scope) -> str | None:
    """Raises `Invalid`."""
    for name, value in scope["headers"]:
        if name == CALLBACK_HEADER:
            return check_callback(value.decode("latin-1"), context.settings)
    return None


async def written(context: Context, folder: str, write: Callable[..., T], *values: Any) -> T:
    """The result of `write`, which makes the folder of a new job. Raises `OutOfSpace`, and then leaves no folder."""
    path = context.settings.data_path / FOLDER / folder
    try:
        return await asyncio.to_thread(write, path, *values)
    except OSError as error:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        raise OutOfSpace(cause=str(error)) from error


def write_request(folder: Path, body: bytes) -> str:
    """Makes the folder of a new job with the body, which is on the disk. Returns its digest. Raises `OSError`."""
    folder.mkdir(parents=True)
    write_durably(folder / REQUEST, body)
    sync_folder(folder.parent)
    return hashlib.sha256(body).hexdigest()


def _error_of(job: Job) -> TFserveError:
    error = job.outcome.error if job.state in FINISHED else None
    if error is None:
        return NoResponseYet(id=job.pk, state=job.state)
    failure = msgspec.json.decode(error, type=Failure)
    if failure.code in CODES:
        return CODES[failure.code](failure.message)
    return from_failure(failure)


def _accepted(status: JobStatus, applied: tuple[bytes, bytes]) -> RestResponse:
    location = f"/jobs/{status.id}/"
    content = {"job": status.id, "id": status.id, "state": status.state, "location": location}
    return RestResponse(orjson.dumps(content), (JSON_TYPE, (b"location", location.encode()), applied), 202)
