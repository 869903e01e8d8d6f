"""What the calls of the training API do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tfserve.control import training
from tfserve.control.models import TrainingTask
from tfserve.control.task_json import task_json
from tfserve.errors import Forbidden, Invalid, NotFound, PathRefused
from tfserve.http.answers import json_response
from tfserve.http.bodies import read_body
from tfserve.http.user_files import file_response
from tfserve.ipc.messages import StartTraining
from tfserve.paths import resolve
from tfserve.protocols.tfmodel.requests import WEIGHTS, Feedback, NewTask, from_form
from tfserve.protocols.tfserve.handlers import Context
from tfserve.protocols.tfserve.names import workspace_name
from tfserve.protocols.tfserve.reading import number, send_output
from tfserve.protocols.tfserve.requests import decode
from tfserve.serving.reads import read
from tfserve.tensors import decode_b64
from tfserve.training import earlier_models, parameters
from tfserve.training.earlier_models import NONE, PARAMETER
from tfserve.training.project_folders import LATEST, MODELS, is_archive, results_folder

NEW_TASK = msgspec.json.Decoder(NewTask)
PATHS = ("weights", "unlabelled")
"""Parameters that name something on the server's disk."""
FEEDBACK = msgspec.json.Decoder(Feedback)


async def start_by_form(context: Context, request: Request) -> Response:
    body = await read_body(request.scope, request.receive, context.settings)
    form = await from_form(body, request.headers.get("content-type", ""))
    return await _start(context, form.task, warnings=form.warnings, weights=form.weights)


async def start_by_json(context: Context, request: Request) -> Response:
    return await _start(context, decode(await read_body(request.scope, request.receive, context.settings), NEW_TASK))


async def query(_: Context, request: Request) -> Response:
    return _answer(task_json(await read(training.find, request.query_params["taskId"])))


async def show(_: Context, request: Request) -> Response:
    return _answer(task_json(await _task(request)))


async def list_tasks(_: Context, request: Request) -> Response:
    asked = request.query_params
    found, total = await read(
        training.tasks,
        user_id=asked.get("userId"),
        project_id=asked.get("projectId"),
        limit=number(asked.get("limit", "100"), "limit", most=1000),
        offset=number(asked.get("offset", "0"), "offset"),
    )
    return _answer({"tasks": [task_json(task) for task in found], "total": total})


async def cancel(context: Context, request: Request) -> Response:
    await context.line.cancel_task(request.path_params["id"])
    return await show(context, request)


async def resume(context: Context, request: Request) -> Response:
    await context.line.resume_task(request.path_params["id"])
    return await show(context, request)


async def output(context: Context, request: Request) -> Response:
    return await send_output(context, request, (await _task(request)).job)


async def metrics(context: Context, request: Request) -> Response:
    """The whole metrics.json when there is one, else what the running training has told."""
    task = await _task(request)
    try:
        file = await read(_artifact, _result_folder(task), "metrics.json", context)
    except NotFound:
        return _answer(task.metrics or {})
    return file_response(file)


async def artifact(context: Context, request: Request) -> Response:
    """A file of the result; a folder answers with what is in it."""
    path = await read(_artifact, _result_folder(await _task(request)), request.path_params["path"], context)
    if path.is_dir():
        names = sorted(each.name + "/" * each.is_dir() for each in path.iterdir())
        return _answer({"files": names})
    return file_response(path)


async def give_feedback(context: Context, request: Request) -> Response:
    """An image with its correct label, as JSON, or as the file's bytes with `?label=`."""
    task = await _task(request)
    body = await read_body(request.scope, request.receive, context.settings)
    if request.headers.get("content-type", "").startswith("image/"):
        label, image = request.query_params.get("label", ""), body
    else:
        asked = decode(body, FEEDBACK)
        label, image = asked.label, decode_b64(asked.image.get("b64", ""), "image")
    kept = await context.line.keep_feedback(task.task_id, label, image)
    return _answer({"taskId": task.task_id, "label": kept.label, "file": kept.file, "images": kept.images})


async def list_parameters(_: Context, __: Request) -> Response:
    return _answer(parameters.listing())


# --- parts


async def _start(
    context: Context, asked: NewTask, *, warnings: Sequence[str] = (), weights: bytes | None = None
) -> Response:
    train_type = parameters.train_type(asked.trainType)
    also = {PARAMETER: asked.warmStart} if asked.warmStart is not None else {}
    also |= {} if weights is None else {WEIGHTS: "the uploaded file"}
    chosen = parameters.complete(train_type, asked.parameters | also)
    for name in PATHS:
        if chosen.get(name, "auto") != "auto" and name not in also:
            chosen[name] = str(_inside(context, chosen[name]))
    project = _project_folder(context, asked.projectDir)
    if chosen[PARAMETER] != NONE:
        chosen[PARAMETER] = str(await _earlier_result(context, project, chosen[PARAMETER]))
    task_id = await context.line.start_training(
        StartTraining(
            user_id=asked.userId,
            project_id=asked.projectId,
            project_dir=str(project),
            train_type=train_type,
            parameters=chosen,
            weights=weights,
            deploy_to=None if asked.deploy_to is None else workspace_name(asked.deploy_to),
        )
    )
    task = task_json(await read(training.find, task_id), state="initialize")
    return _answer(task | ({"warnings": warnings} if warnings else {}))


async def _earlier_result(context: Context, project: Path, given: str) -> Path:
    """The folder with the result of the task that a training starts from. Raises `Invalid`, `Forbidden`."""
    if given == LATEST:
        return _inside(context, str(earlier_models.folder_of(results_folder(project), given)))
    try:
        task = await read(training.find, given)
    except NotFound:
        raise Invalid(f"{PARAMETER}: there is no task {given[:100]!r}. Give the id of a task.") from None
    if task.model_path is None:
        raise Invalid(
            f"{PARAMETER}: task {given} has no model, its state is {task_json(task)['state']!r}. Give a task"
            " that is done."
        )
    return _inside(context, str(_result_folder(task)))


def _inside(context: Context, path: str) -> Path:
    try:
        return resolve(path, start=context.start_folder, roots=context.settings.root_paths)
    except PathRefused as refused:  # the contract's word for it in this API
        raise Forbidden(refused.message) from None


def _artifact(folder: Path, name: str, context: Context) -> Path:
    """Raises `NotFound` for what is not there, is no path, or lies outside of the result or of the allowed folders."""
    try:
        path = (folder / name).resolve()
        found = path.is_relative_to(folder.resolve()) and path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        found = False
    if not found or not any(path.is_relative_to(root) for root in context.settings.root_paths):
        raise NotFound(f"The result has no file {name[:200]!r}.")
    return path


def _project_folder(context: Context, path: str) -> Path:
    folder = _inside(context, path)
    try:
        found = folder.is_dir() or (is_archive(folder) and folder.is_file())
    except OSError as error:
        raise Invalid(f"projectDir {path[:200]!r} can't be looked at: {error.strerror}.") from None
    if not found:
        raise Invalid(
            f"There is no folder {path[:200]!r} on the server: projectDir names the project's folder, or a zip file."
        )
    return folder


async def _task(request: Request) -> TrainingTask:
    return await read(training.find, request.path_params["id"])


def _result_folder(task: TrainingTask) -> Path:
    return results_folder(Path(task.project_dir)) / MODELS / task.task_id


def _answer(content: Any) -> Response:
    return json_response(msgspec.json.encode(content))
