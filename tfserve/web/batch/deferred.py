"""Computes a deferred prediction, and writes what its direct request would have returned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from tfserve.durable_files import write_durably
from tfserve.errors import NotFound
from tfserve.ipc.messages import DeferredJob, JobState, Outcome
from tfserve.model_job_files import REQUEST, RESPONSE, Responded
from tfserve.web.api.v1 import core, routing
from tfserve.web.api.v1.predict_json import PROTOCOL as V1
from tfserve.web.api.v1.rest_predict import respond
from tfserve.web.api.v2.core import model_of
from tfserve.web.api.v2.rest_infer import LENGTH_HEADER, infer
from tfserve.web.api.v2.routing import infer_target
from tfserve.web.batch.at_most_once import computed_once, require_unmarked
from tfserve.web.batch.patience import with_patience
from tfserve.web.http.exchange import RequestContext
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.responses import JSON_TYPE, RestResponse
from tfserve.web.predictions.live_models import LiveModels, Model
from tfserve.web.predictions.request import Caller, Options

PATIENCE_S = 600.0
"""Maximum time that a prediction waits for a model that is loading."""
MAX_INLINE_BYTES = 256 * 1024
"""Larger JSON responses are only in the file, not in the database."""


async def run_deferred(models: LiveModels, job: DeferredJob, folder: Path) -> Outcome:
    """Raises the errors of the direct request, and `PossiblyComputed`."""
    try:
        body = await asyncio.to_thread((folder / REQUEST).read_bytes)
    except FileNotFoundError:  # a server on the same database, with another data folder
        raise NotFound("The body of this request is not in the data folder of this server. Send it again.") from None
    await asyncio.to_thread(require_unmarked, folder)
    response = await _compute(models, job, body, folder)
    headers = dict(response.headers)
    length = headers.get(LENGTH_HEADER)
    await asyncio.to_thread(write_durably, folder / RESPONSE, response.body)
    detail = Responded(
        content_type=headers[b"content-type"].decode(),
        bytes=len(response.body),
        inference_header_content_length=None if length is None else int(length),
    )
    result = response.body if _is_inline(response) else b"null"
    return Outcome(state=JobState.SUCCEEDED, result=result, detail=msgspec.json.encode(detail))


async def _compute(models: LiveModels, job: DeferredJob, body: bytes, folder: Path) -> RestResponse:
    headers = {name.encode(): value.encode("latin-1") for name, value in job.headers.items()}
    if job.protocol != V1:
        target, pinned = infer_target(job.path)

        async def compute_v2(model: Model) -> RestResponse:
            async with computed_once(folder, model):
                return await infer(model, body, headers, Caller(), pinned=pinned)

        return await with_patience(models, lambda: model_of(models, *target), compute_v2, PATIENCE_S)
    head = RequestContext(headers, job.query.encode("latin-1"))
    address = routing.read("POST", job.path.encode("latin-1"))
    options = Options(V1, *read_priority_headers(headers), address.is_pinned)

    async def compute(model: Model) -> RestResponse:
        async with computed_once(folder, model):
            return await respond(address.verb, model, options, head, body)

    return await with_patience(models, lambda: core.find(models, address), compute, PATIENCE_S)


def _is_inline(response: RestResponse) -> bool:
    """Whether the response can be part of the job's JSON: it is small and strict JSON, without NaN and infinity."""
    if JSON_TYPE not in response.headers or len(response.body) > MAX_INLINE_BYTES:
        return False
    try:
        msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        return False
    return True
