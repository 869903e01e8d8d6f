"""The GET endpoints: jobs, their output, and the status of the server."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.db import reads
from tfserve.db.job_json import job_detail, job_row
from tfserve.db.models import Job
from tfserve.errors import Invalid, Unavailable, nearest
from tfserve.ipc.messages import FINISHED, GetServer, JobKind, JobState, WaitChange, WaitJob, WaitOutput
from tfserve.web.api.endpoint import EVENTS, TEXT, Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.workspace.job_json import JobDetail, JobList, ServerStatus
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.database_reads import read

CHUNK_BYTES = 256 * 1024
FOLLOW_S = 15.0
MAX_WAIT_S = 60
MAX_INT = 2**63 - 1

E = TypeVar("E", bound=StrEnum)

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.PREDICT, Tag.JOBS)

JOB_ID: Schema = {"type": "integer", "minimum": 1, "description": "the job's `id`"}
WAIT: Schema = {
    "type": "integer",
    "minimum": 0,
    "maximum": MAX_WAIT_S,
    "default": 0,
    "description": "maximum seconds to wait for the end of the job",
}
OFFSET: Schema = {"type": "integer", "minimum": 0, "default": 0}


def page_of(noun: str) -> dict[str, Schema]:
    """The parameters of a list."""
    limit = {"type": "integer", "minimum": 0, "maximum": 1000, "default": 100, "description": f"{noun} per page"}
    return {"limit": limit, "offset": {**OFFSET, "description": f"{noun} to skip"}}


def page(request: Request) -> dict[str, int]:
    """The limit and the offset that a request for a list names. Raises `Invalid`."""
    query = request.query_params
    limit = number(query.get("limit", "100"), "limit", most=1000)
    return {"limit": limit, "offset": number(query.get("offset", "0"), "offset")}


# --- jobs


@ENDPOINTS.get(
    "/jobs/",
    JobList,
    summary="list jobs, newest first",
    returns="{jobs, total}: one page of jobs, without their values, and the total number of jobs",
    parameters={
        "name": {"type": "string", "description": "filter by workspace"},
        "state": {"type": "string", "enum": list(JobState), "description": "filter by state"},
        "kind": {"type": "string", "enum": list(JobKind), "description": "filter by kind"},
        **page_of("jobs"),
    },
)
async def list_jobs(_: Context, request: Request) -> dict[str, Any]:
    query = request.query_params
    name = query.get("name")
    jobs, total = await read(
        _page,
        name=None if name is None else workspace_name(name),
        state=_choice(query.get("state"), JobState, "state"),
        kind=_choice(query.get("kind"), JobKind, "kind"),
        **page(request),
    )
    return {"jobs": jobs, "total": total}


@ENDPOINTS.get(
    "/jobs/{id}",
    JobDetail,
    summary="get all details of a job",
    returns="the job",
    parameters={"id": JOB_ID, "wait": WAIT},
)
async def get_job(context: Context, request: Request) -> dict[str, Any]:
    return job_detail(await awaited_job(context, request))


async def awaited_job(context: Context, request: Request) -> Job:
    """The job of the path, after waiting for its end as long as the query says."""
    wait_s = number(request.query_params.get("wait", "0"), "wait", most=MAX_WAIT_S)
    job = await read(reads.job_by_id, job_id(request))
    if wait_s and job.state not in FINISHED:
        await context.line.ask(WaitJob(job_id=job.pk, wait_s=wait_s))
        job = await read(reads.job_by_id, job.pk)
    return job


@ENDPOINTS.get(
    "/jobs/{id}/output",
    summary="read the output of a job, from any offset or as a live stream",
    returns=(
        "the text from offset on, with the headers X-Next-Offset and X-Job-State; with Accept: text/event-stream, "
        "a live stream of the events `output` ({offset, text}) and `end` ({state})"
    ),
    parameters={"id": JOB_ID, "offset": {**OFFSET, "description": "first byte to return"}},
    media=(TEXT, EVENTS),
)
async def read_job_output(context: Context, request: Request) -> Response:
    job = await read(reads.job_by_id, job_id(request))
    return await send_output(context, request, job)


async def send_output(context: Context, request: Request, job: Job) -> Response:
    """A job's output from the requested offset, or a live stream if the client accepts events."""
    path = await read(reads.output_path, context.settings.data_path, job)
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
    return StreamingResponse(pieces(path, offset, size), media_type="text/plain; charset=utf-8", headers=headers)


async def pieces(path: Path, offset: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a file from `offset` to `end`."""
    while offset < end and (data := await read(_read_file, path, offset, min(CHUNK_BYTES, end - offset))):
        offset += len(data)
        yield data


async def _follow(context: Context, job: Job, path: Path, offset: int) -> AsyncIterator[str]:
    """Events `output` while the job prints and `end` when it has ended. An event's id is the offset after it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ended = False
    while True:
        while data := await read(_read_file, path, offset, CHUNK_BYTES):
            offset += len(data)
            text = decoder.decode(data)
            # The id is at a character boundary, so that clients that resume from it get whole characters.
            undecoded = len(decoder.getstate()[0])
            yield _event("output", {"offset": offset - undecoded, "text": text}, offset - undecoded)
        if ended:
            break
        try:
            ended = await context.line.ask(WaitOutput(job_id=job.pk, offset=offset, wait_s=FOLLOW_S))
        except Unavailable as error:  # shutting down: clients resume from this offset after a restart
            yield _event("stopping", {"message": error.message}, offset)
            return
        yield ": alive\n\n"
    if rest := decoder.decode(b"", final=True):  # the job ended in the middle of a character
        yield _event("output", {"offset": offset, "text": rest}, offset)
    state = (await read(reads.job_by_id, job.pk)).state
    yield _event("end", {"state": state}, offset)


def _event(name: str, data: dict[str, Any], offset: int) -> str:
    return f"event: {name}\nid: {offset}\ndata: {msgspec.json.encode(data).decode()}\n\n"


def _read_file(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            if offset >= os.fstat(file.fileno()).st_size:  # a file system refuses to seek too far
                return b""
            file.seek(offset, os.SEEK_SET)
            return file.read(size)
    except FileNotFoundError:  # a job without output has no file
        return b""


def _page(**filters: Any) -> tuple[list[dict[str, Any]], int]:
    jobs, total = reads.jobs(**filters)
    return [job_row(job) for job in jobs], total


# --- the server


@ENDPOINTS.get(
    "/server/",
    ServerStatus,
    summary="get the status of the server and its workspaces",
    returns="version, pid, memory, spare, roots, workspaces, and revision, which increases with every change",
    parameters={
        "since": {"type": "integer", "minimum": 0, "description": "wait until revision differs from this"},
        "wait": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_WAIT_S,
            "default": 15,
            "description": "maximum seconds to wait for a change",
        },
    },
    tag=Tag.SERVER,
)
async def get_server(context: Context, request: Request) -> dict[str, Any]:
    query = request.query_params
    if "since" in query:
        since, wait_s = number(query["since"], "since"), number(query.get("wait", "15"), "wait", most=MAX_WAIT_S)
        await context.line.ask(WaitChange(since=since, wait_s=wait_s))
    found = await context.line.ask(GetServer())
    principal = PRINCIPAL.get()
    if principal.workspaces is None:
        return found
    del found["declared"], found["nodes"]  # they name models of other workspaces
    return found | {"workspaces": [each for each in found["workspaces"] if principal.sees_workspace(each["name"])]}


# --- parts


def job_id(request: Request) -> int:
    """The id in the path. Raises `Invalid`."""
    return number(request.path_params["id"], "id")


def number(text: str, name: str, *, most: int = MAX_INT) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Invalid(f"{name} must be an integer from 0 to {most}, got {text[:40]!r}", field=name)
    return int(text)


def flag(text: str, name: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise Invalid(f"{name} must be true or false, got {text[:40]!r}", field=name)
    return text.lower() == "true"


def _choice(text: str | None, choices: type[E], name: str) -> E | None:
    if text is None:
        return None
    try:
        return choices(text)
    except ValueError:
        raise Invalid(
            f"{name} must be one of {', '.join(choices)}; got {text[:40]!r}{nearest(text, list(choices))}", field=name
        ) from None
