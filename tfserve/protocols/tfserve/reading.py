"""The GET side: jobs, their output from any offset, live if asked for; the OpenAPI document."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tfserve.control import queries
from tfserve.control.models import Job
from tfserve.errors import Invalid, Unavailable, nearest
from tfserve.http.answers import json_response
from tfserve.ipc.messages import JobKind, JobState
from tfserve.protocols.tfserve.handlers import Context
from tfserve.protocols.tfserve.names import workspace_name
from tfserve.protocols.tfserve.rendering import job_detail, job_row
from tfserve.serving.reads import read

CHUNK_BYTES = 256 * 1024
FOLLOW_S = 15.0
MAX_WAIT_S = 60
MAX_INT = 2**63 - 1

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class Read:
    """A GET endpoint; `parameters` are JSON schemas with descriptions, of path and query together."""

    path: str
    name: str
    purpose: str
    tells: str
    handler: Callable[[Context, Request], Awaitable[Response]]
    parameters: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    media: tuple[str, ...] = ("application/json",)


# --- jobs


async def list_jobs(_: Context, request: Request) -> Response:
    query = request.query_params
    name = query.get("name")
    jobs, total = await read(
        _page,
        name=None if name is None else workspace_name(name),
        state=_choice(query.get("state"), JobState, "state"),
        kind=_choice(query.get("kind"), JobKind, "kind"),
        limit=number(query.get("limit", "100"), "limit", most=1000),
        offset=number(query.get("offset", "0"), "offset"),
    )
    return _result({"jobs": jobs, "total": total})


async def show_job(_: Context, request: Request) -> Response:
    return _result(job_detail(await read(queries.job_by_id, _job_id(request))))


async def job_output(context: Context, request: Request) -> Response:
    job = await read(queries.job_by_id, _job_id(request))
    return await send_output(context, request, job)


async def send_output(context: Context, request: Request, job: Job) -> Response:
    """What a job printed, from the offset that the request names; live if it asks for events."""
    path = await read(queries.output_path, context.settings.data_path, job)
    offset = number(request.query_params.get("offset", "0"), "offset")
    if "text/event-stream" in request.headers.get("accept", ""):
        offset = number(request.headers.get("last-event-id", str(offset)), "Last-Event-ID")
        events = _follow(context, job, path, offset)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    size = path.stat().st_size if path.exists() else 0
    headers = {
        "X-Next-Offset": str(max(offset, size)),
        "X-Job-State": str(job.state),
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_pieces(path, offset, size), media_type="text/plain; charset=utf-8", headers=headers)


async def _pieces(path: Path, offset: int, end: int) -> AsyncIterator[bytes]:
    while offset < end and (data := await read(_read_file, path, offset, min(CHUNK_BYTES, end - offset))):
        offset += len(data)
        yield data


async def _follow(context: Context, job: Job, path: Path, offset: int) -> AsyncIterator[str]:
    """Events `output` as the job prints, and `end` when it has ended. An event's id is the offset behind it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ended = False
    while True:
        while data := await read(_read_file, path, offset, CHUNK_BYTES):
            offset += len(data)
            text = decoder.decode(data)
            # The id lies behind whole characters only: whoever comes back with it gets no half ones.
            held = len(decoder.getstate()[0])
            yield _event("output", {"offset": offset - held, "text": text}, offset - held)
        if ended:
            break
        try:
            ended = await context.line.wait_output(job.pk, offset, FOLLOW_S)
        except Unavailable as error:  # the server stops: whoever comes back later goes on from this offset
            yield _event("stopping", {"message": error.message}, offset)
            return
        yield ": alive\n\n"
    if rest := decoder.decode(b"", final=True):  # the job ended in the middle of a character
        yield _event("output", {"offset": offset, "text": rest}, offset)
    state = (await read(queries.job_by_id, job.pk)).state
    yield _event("end", {"state": state}, offset)


def _event(name: str, data: dict[str, Any], offset: int) -> str:
    return f"event: {name}\nid: {offset}\ndata: {msgspec.json.encode(data).decode()}\n\n"


def _read_file(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset, os.SEEK_SET)
            return file.read(size)
    except FileNotFoundError:  # a job that has printed nothing has no file
        return b""


def _page(**choice: Any) -> tuple[list[dict[str, Any]], int]:
    jobs, total = queries.jobs(**choice)
    return [job_row(job) for job in jobs], total


# --- the server


async def server(context: Context, request: Request) -> Response:
    query = request.query_params
    if "since" in query:
        since, wait_s = number(query["since"], "since"), number(query.get("wait", "15"), "wait", most=MAX_WAIT_S)
        await context.line.wait_change(since, wait_s)
    return _result(await context.line.server())


async def openapi_document(_: Context, __: Request) -> Response:
    from tfserve.protocols.tfserve.openapi import openapi  # made from the table below

    return json_response(msgspec.json.encode(openapi()))


_JOB_ID = {"type": "integer", "minimum": 1, "description": "the job's `id`"}
_OFFSET = {"type": "integer", "minimum": 0, "default": 0, "description": "where to begin"}

READS = (
    Read(
        path="/jobs/",
        name="list_jobs",
        purpose="list jobs, newest first",
        tells="{jobs, total}: a page of jobs without their values, and how many there are",
        handler=list_jobs,
        parameters={
            "name": {"type": "string", "description": "of this workspace only"},
            "state": {"type": "string", "enum": list(JobState), "description": "in this state only"},
            "kind": {"type": "string", "enum": list(JobKind), "description": "of this kind only"},
            "limit": {
                "type": "integer", "minimum": 0, "maximum": 1000, "default": 100, "description": "jobs on a page"
            },
            "offset": {**_OFFSET, "description": "jobs to skip"},
        },
    ),
    Read(
        path="/jobs/{id}",
        name="show_job",
        purpose="show one job with everything that is kept of it",
        tells="the job",
        handler=show_job,
        parameters={"id": _JOB_ID},
    ),
    Read(
        path="/jobs/{id}/output",
        name="job_output",
        purpose="read what a job printed, from any offset, while it runs and after",
        tells=(
            "the text from offset on, with X-Next-Offset and X-Job-State; with Accept: text/event-stream the events "
            "`output` ({offset, text}) as they come, and `end` ({state})"
        ),
        handler=job_output,
        parameters={"id": _JOB_ID, "offset": {**_OFFSET, "description": "byte to begin with"}},
        media=("text/plain", "text/event-stream"),
    ),
    Read(
        path="/server/",
        name="server",
        purpose="tell how the server and its workspaces are doing",
        tells="version, pid, memory, spare, roots, workspaces, and revision, which grows with every change",
        handler=server,
        parameters={
            "since": {"type": "integer", "minimum": 0, "description": "answer when revision is no longer this"},
            "wait": {
                "type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 15,
                "description": "seconds to wait for a change",
            },
        },
    ),
    Read(
        path="/openapi.json",
        name="openapi",
        purpose="this API as an OpenAPI 3.1 document",
        tells="the document",
        handler=openapi_document,
    ),
)  # fmt: skip


# --- parts


def _result(result: Any) -> Response:
    return json_response(msgspec.json.encode({"request_result": True, "result": result}))


def _job_id(request: Request) -> int:
    return number(request.path_params["id"], "id")


def number(text: str, name: str, *, most: int = MAX_INT) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Invalid(f"{name} must be a whole number from 0 to {most}, {text[:40]!r} was given", field=name)
    return int(text)


def _choice(text: str | None, words: type[E], name: str) -> E | None:
    if text is None:
        return None
    try:
        return words(text)
    except ValueError:
        raise Invalid(
            f"{name} must be one of {', '.join(words)}; {text[:40]!r} was given{nearest(text, list(words))}", field=name
        ) from None
