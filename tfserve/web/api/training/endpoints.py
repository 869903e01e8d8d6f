"""The endpoint table of the training API, from which routes, guide and OpenAPI document are generated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tfserve.web.api.training import handlers
from tfserve.web.api.training.requests import Feedback, NewTask
from tfserve.web.api.workspace.handlers import Context

Handler = Callable[[Context, Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one path. `query` has the query parameters with their descriptions."""

    verb: str
    path: str
    purpose: str
    tells: str
    handler: Handler
    query: tuple[tuple[str, str], ...] = ()
    body: type[msgspec.Struct] | None = None
    media: tuple[str, ...] = ("application/json",)


PAGE = (("limit", "tasks per page (default: 100)"), ("offset", "tasks to skip (default: 0)"))

ENDPOINTS = (
    Endpoint(
        verb="POST",
        path="/tasks/",
        purpose="start a training task; like the form of POST /, with optional parameters",
        tells="the task in state initialize",
        handler=handlers.start_by_json,
        body=NewTask,
    ),
    Endpoint(
        verb="GET",
        path="/tasks/",
        purpose="list training tasks, newest first",
        tells="{tasks, total}",
        handler=handlers.list_tasks,
        query=(("userId", "filter by user"), ("projectId", "filter by project"), *PAGE),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}",
        purpose="get the progress of a task; same as GET /?taskId=",
        tells="the task: progress, state, message, eta, metrics, modelPath, error",
        handler=handlers.show,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/cancel",
        purpose="cancel a task; its best checkpoint is kept",
        tells="the task, after it has ended",
        handler=handlers.cancel,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/resume",
        purpose="resume a failed or cancelled task",
        tells="the task",
        handler=handlers.resume,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/feedback",
        purpose="add an image with its correct label to the next training: as JSON, or as an image file with ?label=",
        tells="{taskId, label, file, images}: the stored file and the number of images added so far",
        handler=handlers.give_feedback,
        body=Feedback,
        query=(("label", "the correct label if the body is an image file"),),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/output",
        purpose="read the output of the task, from any offset or as a live stream",
        tells="same as GET /jobs/{id}/output",
        handler=handlers.output,
        media=("text/plain", "text/event-stream"),
        query=(("offset", "first byte to return (default: 0)"),),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/metrics",
        purpose="get the model's metrics",
        tells="metrics.json if the task is done, otherwise the metrics reported so far",
        handler=handlers.metrics,
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/artifacts/{path}",
        purpose="download a file of the task's result, or list a folder",
        tells="the file, or the list of files",
        handler=handlers.artifact,
        media=("application/json", "*/*"),
    ),
    Endpoint(
        verb="GET",
        path="/training/parameters/",
        purpose="list the training parameters with defaults, ranges and descriptions",
        tells="the parameters of each train type",
        handler=handlers.list_parameters,
    ),
)
