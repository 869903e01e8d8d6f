"""The path `/`, which the APIs and the pages share, and the documents that describe all APIs."""

from __future__ import annotations

import asyncio
from functools import cache, partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.access.principals import PRINCIPAL, TRAIN
from tfserve.db import training_tasks
from tfserve.db.task_json import task_json
from tfserve.errors import Invalid
from tfserve.web.api.endpoint import BINARY, JSON, REF, Context, Endpoint, EndpointTable, Format, Schema
from tfserve.web.api.guide import guide
from tfserve.web.api.json_requests import read_any
from tfserve.web.api.metrics import endpoints as metrics
from tfserve.web.api.model_examples import add_examples
from tfserve.web.api.model_jobs import again as model_jobs_again
from tfserve.web.api.model_jobs import handlers as model_jobs
from tfserve.web.api.openapi import openapi
from tfserve.web.api.tokens import handlers as tokens
from tfserve.web.api.training import handlers as training
from tfserve.web.api.training import project_images
from tfserve.web.api.training.requests import CreateTask
from tfserve.web.api.training.results import Task
from tfserve.web.api.uploads import endpoints as uploads
from tfserve.web.api.uploads import workspace_files
from tfserve.web.api.v1 import openapi as v1
from tfserve.web.api.v2 import openapi as v2
from tfserve.web.api.workspace import handlers as workspace
from tfserve.web.api.workspace import reading, results
from tfserve.web.api.workspace.reading import flag
from tfserve.web.database_reads import read
from tfserve.web.http import multipart
from tfserve.web.http.bodies import read_body
from tfserve.web.http.forwarded import origin_of
from tfserve.web.http.offload import offloaded_if_heavy
from tfserve.web.http.responses import TRAINING_REQUEST, MethodNotAllowed, send_json

FORM, HTML = "application/x-www-form-urlencoded", "text/html"
_WEIGHTS = {**BINARY, "description": "weights file of the backbone"}
_UPLOAD: Schema = {
    "allOf": [{"$ref": REF.format(name=CreateTask.__name__)}, {"type": "object", "properties": {"weights": _WEIGHTS}}]
}

_GUIDE: Schema = {
    "type": "object",
    "required": ["request_result", "result"],
    "properties": {
        "request_result": {"type": "boolean", "const": True},
        "result": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": True}},
    },
}


ENDPOINTS = EndpointTable(Format.EITHER, None)
ENDPOINTS += [
    Endpoint(
        "POST",
        "/",
        "get_guide",
        summary="get this guide; with a form, start a training task",
        returns=(
            "an object keyed by endpoint path; unknown request fields are not an error, but cause "
            "`warnings` in the response, such as \"unknown field 'time_out'; did you mean 'timeout'?\""
        ),
        format=Format.EITHER,
        accepts={JSON: dict[str, Any], FORM: CreateTask, multipart.MEDIA: _UPLOAD},
        result={"anyOf": [_GUIDE, {"$ref": REF.format(name=Task.__name__)}]},
    ),
    Endpoint(
        "GET",
        "/",
        "get_status_page",
        summary="get the status page; with taskId, same as GET /tasks/{id}",
        returns="a page, or the task",
        format=Format.EITHER,
        parameters={"taskId": {"type": "string", "description": "id of a training task"}},
        result=Task,
        media=(HTML, JSON),
    ),
]


@ENDPOINTS.get(
    "/openapi.json",
    dict[str, Any],
    summary="get the OpenAPI 3.1 document of this API",
    returns="the document",
    parameters={
        "models": {
            "type": "boolean",
            "default": False,
            "description": "add example requests for the models of this server",
        }
    },
)
async def get_openapi(context: Context, request: Request) -> dict[str, Any]:
    document = await asyncio.to_thread(_document)
    document["servers"][0]["url"] = origin_of(request.scope)
    if flag(request.query_params.get("models", "false"), "models"):
        add_examples(document, context.models)
    return document


def _document() -> dict[str, Any]:
    """A copy of the OpenAPI document, which takes tens of milliseconds to write."""
    return msgspec.json.decode(_document_json(), type=dict[str, Any])


@cache
def _document_json() -> bytes:
    return msgspec.json.encode(openapi(endpoints()))


def endpoints() -> list[Endpoint]:
    """All endpoints of the server."""
    tables = (
        workspace, results, training, project_images, v1, v2, reading, model_jobs, model_jobs_again, uploads,
        workspace_files, metrics, tokens,
    )  # fmt: skip
    return [*ENDPOINTS, *(row for table in tables for row in table.ENDPOINTS)]


class Root:
    """Serves `/`: a form or `?taskId=` is for training, other POSTs get the API guide, other GETs the status page."""

    def __init__(self, context: Context, pages: ASGIApp) -> None:
        self._context = context
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await send_json(scope, send, await self._post(scope, receive))
        elif scope["method"] not in ("GET", "HEAD"):
            usage = "Method not allowed for /. Use GET for the status page or POST for the API guide."
            raise MethodNotAllowed(usage, "GET", "POST")
        elif (task_id := Request(scope).query_params.get("taskId")) is not None:
            scope[TRAINING_REQUEST] = True
            PRINCIPAL.get().require(TRAIN)
            task = await read(training_tasks.find, task_id)
            await send_json(scope, send, msgspec.json.encode(task_json(task)))
        else:
            await self._pages(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive) -> bytes:
        """By default curl sends JSON with the content type of a form, so the body decides."""
        body = await read_body(scope, receive, self._context.settings)
        is_json = body.lstrip()[:1] in (b"{", b"[", b'"', b"")
        content_type = Request(scope).headers.get("content-type", "")
        media = content_type.strip().lower()
        is_form = media.startswith((FORM, multipart.MEDIA))
        if is_form and not is_json:
            scope[TRAINING_REQUEST] = True
            PRINCIPAL.get().require(TRAIN)
            return msgspec.json.encode(await training.start_by_form(self._context, body, content_type))
        if not (is_json or "json" in media):
            raise _neither_json_nor_form(media)
        await offloaded_if_heavy(body, partial(read_any, body, []))
        return msgspec.json.encode({"request_result": True, "result": guide(endpoints())})


def _neither_json_nor_form(media: str) -> Invalid:
    return Invalid(
        f"Unsupported content type for POST /: {media[:100]!r}. Send a form ({FORM} or {multipart.MEDIA})"
        " to start a training, or JSON or an empty body to get the API guide."
    )
