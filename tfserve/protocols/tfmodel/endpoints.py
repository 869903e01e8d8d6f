"""The one table of the training API. Routes, guide and OpenAPI document are made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tfserve.protocols.tfmodel import handlers
from tfserve.protocols.tfmodel.requests import Feedback, NewTask
from tfserve.protocols.tfserve.handlers import Context

Handler = Callable[[Context, Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One verb on one path; `query` are the names that may stand behind a question mark, and what they mean."""

    verb: str
    path: str
    purpose: str
    tells: str
    handler: Handler
    query: tuple[tuple[str, str], ...] = ()
    body: type[msgspec.Struct] | None = None
    media: tuple[str, ...] = ("application/json",)


PAGE = (("limit", "tasks on a page, 100"), ("offset", "tasks to skip, 0"))

ENDPOINTS = (
    Endpoint(
        verb="POST",
        path="/tasks/",
        purpose="start a training task; the same as a form on POST /, and parameters",
        tells="the task, in the state initialize",
        handler=handlers.start_by_json,
        body=NewTask,
    ),
    Endpoint(
        verb="GET",
        path="/tasks/",
        purpose="list training tasks, newest first",
        tells="{tasks, total}",
        handler=handlers.list_tasks,
        query=(("userId", "of this user only"), ("projectId", "of this project only"), *PAGE),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}",
        purpose="tell how far a task is; the same as GET /?taskId=",
        tells="the task: progress, state, message, eta, metrics, modelPath, error",
        handler=handlers.show,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/cancel",
        purpose="end a task; its best checkpoint is kept",
        tells="the task when it has ended",
        handler=handlers.cancel,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/resume",
        purpose="go on with a task that has ended and is not done",
        tells="the task",
        handler=handlers.resume,
    ),
    Endpoint(
        verb="POST",
        path="/tasks/{id}/feedback",
        purpose="keep an image and its correct label for the next training: JSON, or an image file and ?label=",
        tells="{taskId, label, file, images}: where it is kept, and how many there are",
        handler=handlers.give_feedback,
        body=Feedback,
        query=(("label", "the correct label, when the body is an image file"),),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/output",
        purpose="read what the task's run printed, from any offset, live if asked for",
        tells="as GET /jobs/{id}/output",
        handler=handlers.output,
        media=("text/plain", "text/event-stream"),
        query=(("offset", "byte to begin with, 0"),),
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/metrics",
        purpose="tell how good the model is",
        tells="metrics.json when the task is done, else what the run has told",
        handler=handlers.metrics,
    ),
    Endpoint(
        verb="GET",
        path="/tasks/{id}/artifacts/{path}",
        purpose="fetch a file that the task has made; a folder lists its files",
        tells="the file",
        handler=handlers.artifact,
        media=("application/json", "*/*"),
    ),
    Endpoint(
        verb="GET",
        path="/training/parameters/",
        purpose="list what can be chosen for a training, with defaults, ranges and help",
        tells="for each train type its parameters",
        handler=handlers.list_parameters,
    ),
)
