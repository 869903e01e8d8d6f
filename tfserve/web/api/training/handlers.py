"""The endpoints of the training API. Two more share the path `/` with other APIs: see `tfserve.web.api.root`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.callback_addresses import check_callback
from tfserve.db import training_tasks
from tfserve.db.models import TrainingTask
from tfserve.db.task_json import task_json
from tfserve.errors import Forbidden, Invalid, NotFound, PathRefused
from tfserve.ipc.messages import CancelTask, FinishTask, KeepFeedback, ResumeTask, StartTraining
from tfserve.tensors.casting import decode_b64
from tfserve.training.dataset.project_folders import LATEST, MODELS, is_archive, results_folder
from tfserve.training.fit import earlier_models
from tfserve.training.fit.earlier_models import NONE, PARAMETER
from tfserve.training.recipes import parameters
from tfserve.web.api.endpoint import ANY_FILE, EVENTS, JSON, TEXT, Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.json_requests import decode
from tfserve.web.api.training.requests import WEIGHTS, CreateTask, Feedback, from_form
from tfserve.web.api.training.results import FeedbackResult, FileNames, Task, TaskList
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.api.workspace.reading import OFFSET, page, page_of, send_output
from tfserve.web.database_reads import read, read_accepted
from tfserve.web.http.bodies import read_body
from tfserve.web.http.request_ids import traceparent
from tfserve.web.http.user_files import file_response

ENDPOINTS = EndpointTable(Format.PLAIN, Scope.TRAIN, Tag.TRAINING)

TASK_ID: dict[str, Schema] = {"id": {"type": "string"}}
PATHS = ("weights", "unlabelled")
"""Parameters that are paths on the server."""
FEEDBACK = msgspec.json.Decoder(Feedback)


async def start_by_form(context: Context, body: bytes, content_type: str) -> dict[str, Any]:
    form = await from_form(body, content_type)
    return await _start(context, form.task, warnings=form.warnings, weights=form.weights)


@ENDPOINTS.post(
    "/tasks/",
    CreateTask,
    Task,
    summary="start a training task; like the form of POST /, with optional parameters",
    returns="the task in state initialize",
    needs_body=True,
    example={
        "userId": "me",
        "projectId": "cups",
        "projectDir": "cups",
        "trainType": "classification",
        "parameters": {"epochs": 20},
    },
)
async def start_task(context: Context, task: CreateTask) -> dict[str, Any]:
    return await _start(context, task)


@ENDPOINTS.get(
    "/tasks/{id}",
    Task,
    summary="get the progress of a task; same as GET /?taskId=",
    returns="the task: progress, state, message, eta, metrics, modelPath, error",
    parameters=TASK_ID,
)
async def get_task(_: Context, request: Request) -> dict[str, Any]:
    return task_json(await task_of(request))


@ENDPOINTS.get(
    "/tasks/",
    TaskList,
    summary="list training tasks, newest first",
    returns="{tasks, total}",
    parameters={
        "userId": {"type": "string", "description": "filter by user"},
        "projectId": {"type": "string", "description": "filter by project"},
        **page_of("tasks"),
    },
)
async def list_tasks(_: Context, request: Request) -> dict[str, Any]:
    query = request.query_params
    found, total = await read(
        training_tasks.tasks,
        user_id=query.get("userId"),
        project_id=query.get("projectId"),
        **page(request),
    )
    return {"tasks": [task_json(task) for task in found], "total": total}


@ENDPOINTS.post(
    "/tasks/{id}/cancel",
    result=Task,
    summary="cancel a task; its best checkpoint is kept",
    returns="the task, after it has ended",
    parameters=TASK_ID,
)
async def cancel_task(context: Context, request: Request) -> dict[str, Any]:
    task_id = (await task_of(request)).task_id
    await context.line.ask(CancelTask(task_id=task_id))
    return task_json(await _accepted("The cancellation", task_id))


@ENDPOINTS.post(
    "/tasks/{id}/finish",
    result=Task,
    summary="end a running task early; it delivers its best model so far",
    returns="the task, which still measures and exports the model",
    parameters=TASK_ID,
)
async def finish_task(context: Context, request: Request) -> dict[str, Any]:
    task_id = (await task_of(request)).task_id
    await context.line.ask(FinishTask(task_id=task_id))
    return task_json(await _accepted("The early end", task_id))


@ENDPOINTS.post(
    "/tasks/{id}/resume",
    result=Task,
    summary="resume a failed or cancelled task",
    returns="the task",
    parameters=TASK_ID,
)
async def resume_task(context: Context, request: Request) -> dict[str, Any]:
    task_id = (await task_of(request)).task_id
    await context.line.ask(ResumeTask(task_id=task_id))
    return task_json(await _accepted("The continuation", task_id))


@ENDPOINTS.get(
    "/tasks/{id}/output",
    summary="read the output of the task, from any offset or as a live stream",
    returns="same as GET /jobs/{id}/output",
    parameters={**TASK_ID, "offset": {**OFFSET, "description": "first byte to return"}},
    media=(TEXT, EVENTS),
)
async def read_task_output(context: Context, request: Request) -> Response:
    return await send_output(context, request, (await task_of(request)).job)


@ENDPOINTS.get(
    "/tasks/{id}/metrics",
    dict[str, Any],
    summary="get the model's metrics",
    returns="metrics.json if the task is done, otherwise the metrics reported so far",
    parameters=TASK_ID,
)
async def get_task_metrics(context: Context, request: Request) -> dict[str, Any] | Response:
    """The contents of metrics.json if it exists, otherwise the metrics reported by the running training."""
    task = await task_of(request)
    try:
        file = await read(_artifact, _result_folder(task), "metrics.json", context)
    except NotFound:
        return task.metrics or {}
    return file_response(file)


@ENDPOINTS.get(
    "/tasks/{id}/artifacts/{path}",
    FileNames,
    summary="download a file of the task's result, or list a folder",
    returns="the file, or the list of files",
    parameters={**TASK_ID, "path": {"type": "string"}},
    media=(JSON, ANY_FILE),
)
async def get_task_file(context: Context, request: Request) -> dict[str, Any] | Response:
    """A file of the result, or the listing of a folder."""
    path = await read(_artifact, _result_folder(await task_of(request)), request.path_params["path"], context)
    if path.is_dir():
        names = sorted(each.name + "/" * each.is_dir() for each in path.iterdir())
        return {"files": names}
    return file_response(path)


@ENDPOINTS.post(
    "/tasks/{id}/feedback",
    Feedback,
    FeedbackResult,
    summary="add an image with its correct label to the next training: as JSON, or as an image file with ?label=",
    returns="{taskId, label, file, images}: the stored file and the number of images added so far",
    parameters={
        **TASK_ID,
        "label": {"type": "string", "description": "the correct label if the body is an image file"},
    },
    needs_body=True,
    reads_body=True,
    example={"image": {"b64": "iVBORw0KGgo="}, "label": "cup"},
)
async def add_task_feedback(context: Context, request: Request) -> dict[str, Any]:
    """Stores an image with its correct label, sent as JSON or as the file's bytes with `?label=`."""
    task = await task_of(request)
    body = await read_body(request.scope, request.receive, context.settings)
    if request.headers.get("content-type", "").startswith("image/"):
        label, image = request.query_params.get("label", ""), body
    else:
        feedback = decode(body, FEEDBACK)
        label, image = feedback.label, decode_b64(feedback.image.get("b64", ""), "image")
    kept = await context.line.ask(KeepFeedback(task_id=task.task_id, label=label, image=image))
    return {"taskId": task.task_id, "label": kept.label, "file": kept.file, "images": kept.images}


@ENDPOINTS.get(
    "/training/parameters/",
    dict[str, list[parameters.Parameter]],
    summary="list the training parameters with defaults, ranges and descriptions",
    returns="the parameters of each train type",
)
async def list_training_parameters(_: Context, __: Request) -> dict[str, Any]:
    return parameters.listing()


# --- parts


async def _start(
    context: Context, new: CreateTask, *, warnings: Sequence[str] = (), weights: bytes | None = None
) -> dict[str, Any]:
    train_type = parameters.train_type(new.trainType)
    also = {PARAMETER: new.warmStart} if new.warmStart is not None else {}
    also |= {} if weights is None else {WEIGHTS: "the uploaded file"}
    chosen = parameters.complete(train_type, new.parameters | also)
    for name in PATHS:
        if chosen.get(name, "auto") != "auto" and name not in also:
            chosen[name] = str(await _inside(context, chosen[name]))
    project = await project_folder(context, new.projectDir)
    if chosen[PARAMETER] != NONE:
        chosen[PARAMETER] = str(await _earlier_result(context, project, chosen[PARAMETER]))
    principal = PRINCIPAL.get()
    if new.deploy_to is not None:
        principal.require(Scope.SUBMIT)
    task_id = await context.line.ask(
        StartTraining(
            owner=principal.owner,
            traceparent=traceparent(context.settings),
            user_id=new.userId,
            project_id=new.projectId,
            project_dir=str(project),
            train_type=train_type,
            parameters=chosen,
            weights=weights,
            callback=check_callback(new.callback, context.settings),
            deploy_to=None if new.deploy_to is None else workspace_name(new.deploy_to),
            resources=new.resources.needed() if new.resources is not None else {},
        )
    )
    task = task_json(await _accepted("The training", task_id), state="initialize")
    return task | ({"warnings": warnings} if warnings else {})


async def _accepted(what: str, task_id: str) -> TrainingTask:
    """The task that a request has changed. Raises `AcceptedUnread`."""
    return await read_accepted(what, f"/tasks/{task_id}", training_tasks.find, task_id)


async def _earlier_result(context: Context, project: Path, given: str) -> Path:
    """The result folder of the task that a training starts from. Raises `Invalid`, `Forbidden`."""
    if given == LATEST:
        return await _inside(context, str(earlier_models.folder_of(results_folder(project), given)))
    try:
        task = await read(training_tasks.find, given)
    except NotFound:
        raise Invalid(f"{PARAMETER}: task {given[:100]!r} not found. Give the id of an existing task.") from None
    if task.model_path is None:
        raise Invalid(
            f"{PARAMETER}: task {given} has no model, its state is {task_json(task)['state']!r}. Give a task"
            " in state 'done'."
        )
    return await _inside(context, str(_result_folder(task)))


async def _inside(context: Context, path: str) -> Path:
    try:
        return await context.path(path)
    except PathRefused as refused:  # the contract requires this status in this API
        raise Forbidden(refused.message, **refused.detail) from None


def _artifact(folder: Path, name: str, context: Context) -> Path:
    """Raises `NotFound` if the file does not exist, or its path is invalid or outside the result or the roots."""
    try:
        path = (folder / name).resolve()
        found = path.is_relative_to(folder.resolve()) and path.exists()
    except (OSError, ValueError):  # the name is too long or contains a NUL
        found = False
    if not found or not any(path.is_relative_to(root) for root in context.settings.root_paths):
        raise NotFound(f"File {name[:200]!r} not found in the result.")
    return path


async def project_folder(context: Context, path: str) -> Path:
    """Raises `Forbidden`, `Invalid`, and for an upload what `Context.path` raises."""
    folder = await _inside(context, path)
    try:
        found = folder.is_dir() or (is_archive(folder) and folder.is_file())
    except OSError as error:
        raise Invalid(f"Cannot read projectDir {path[:200]!r}: {error.strerror}.") from None
    if not found:
        raise Invalid(
            f"projectDir {path[:200]!r} not found on the server. Give the path of the project folder or of a zip or tar"
            " file."
        )
    return folder


async def task_of(request: Request) -> TrainingTask:
    """The task in the path of the request. Raises `NoSuchTask`."""
    return await read(training_tasks.find, request.path_params["id"])


def _result_folder(task: TrainingTask) -> Path:
    return results_folder(Path(task.project_dir)) / MODELS / task.task_id
