"""Endpoints for people: what a check of a project finds before the training, and thumbnails of its images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from tfserve.access.principals import Scope
from tfserve.errors import Invalid, NotFound
from tfserve.ipc.messages import CheckProject
from tfserve.training.recipes import parameters
from tfserve.web import thumbnails
from tfserve.web.api.endpoint import BINARY, Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.training.handlers import TASK_ID, project_folder, task_of
from tfserve.web.api.workspace.reading import number

ENDPOINTS = EndpointTable(Format.PLAIN, Scope.TRAIN, Tag.TRAINING)

SIDE: Schema = {"type": "integer", "minimum": 16, "maximum": 1024, "default": 160, "description": "larger side, pixels"}
PLACEHOLDER: Schema = {"type": "boolean", "default": False, "description": "a grey image instead of status 404"}
MAX_SIDE = 1024
WEBP = "image/webp"
KEPT = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "sandbox; default-src 'none'"}


class ProjectCheck(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of `POST /training/check/`."""

    projectDir: Annotated[str, Meta(description="path of the project folder, or upload:<id>", min_length=1)]  # noqa: N815
    trainType: Annotated[str, Meta(description="classification, segmentation or detection (case-insensitive)")]  # noqa: N815
    parameters: Annotated[dict[str, Any], Meta(description="see GET /training/parameters/")] = {}


class LeftOutFile(msgspec.Struct, kw_only=True):
    """A file that a training leaves out, and why."""

    path: str
    reason: str


class SampleImage(msgspec.Struct, kw_only=True):
    """One of the good images of a project; without a class the label is empty."""

    path: str
    label: str


class CheckedProject(msgspec.Struct, kw_only=True):
    """What a check of a project finds."""

    problems: Annotated[list[str], Meta(description="with any, there can be no training")]
    skipped: Annotated[list[LeftOutFile], Meta(description="the first files that are left out")]
    skipped_count: int
    image_count: Annotated[int, Meta(description="images that a training uses")]
    classes: list[str]
    dataset: Annotated[dict[str, Any], Meta(description="layout, classes, split and remarks, without problems only")]
    samples: Annotated[list[SampleImage], Meta(description="a few images of each class")]


@ENDPOINTS.post(
    "/training/check/",
    ProjectCheck,
    CheckedProject,
    summary="check a project as a training does, without starting one",
    returns="{problems, skipped, skipped_count, image_count, classes, dataset, samples}; problems prevent a training",
    needs_body=True,
    example={"projectDir": "flowers", "trainType": "classification"},
)
async def check_project(context: Context, check: ProjectCheck) -> CheckedProject:
    train_type = parameters.train_type(check.trainType)
    chosen = parameters.complete(train_type, check.parameters)
    folder = await project_folder(context, check.projectDir)
    found = await context.line.ask(CheckProject(project_dir=str(folder), train_type=train_type, parameters=chosen))
    return CheckedProject(
        problems=[each.replace(f"{folder}/", "") for each in found.problems],
        skipped=[LeftOutFile(**each) for each in found.skipped],
        skipped_count=found.skipped_count,
        image_count=found.image_count,
        classes=found.classes,
        dataset=found.dataset,
        samples=[SampleImage(**each) for each in found.samples],
    )


@ENDPOINTS.get(
    "/training/thumbnails/{path}",
    BINARY,
    summary="get a small version of an image in a project folder",
    returns="a WebP image",
    parameters={
        "projectDir": {
            "type": "string",
            "required": True,
            "description": "path of the project folder, or upload:<id>",
        },
        "path": {"type": "string", "required": True, "description": "path of the image in the project folder"},
        "side": SIDE,
        "placeholder": PLACEHOLDER,
    },
    media=(WEBP,),
)
async def get_project_thumbnail(context: Context, request: Request) -> Response:
    query = request.query_params
    if not query.get("projectDir"):
        raise Invalid("projectDir is missing: the project folder that the path is relative to.", field="projectDir")
    folder = await project_folder(context, query["projectDir"])
    return await _thumbnail(context, folder, request.path_params["path"], query)


@ENDPOINTS.get(
    "/tasks/{id}/images/{path}",
    BINARY,
    summary="get a small version of an image that a task trains on",
    returns="a WebP image",
    parameters={**TASK_ID, "path": {"type": "string"}, "side": SIDE, "placeholder": PLACEHOLDER},
    media=(WEBP,),
)
async def get_task_image(context: Context, request: Request) -> Response:
    folder = Path((await task_of(request)).project_dir)
    return await _thumbnail(context, folder, request.path_params["path"], request.query_params)


# --- parts


async def _thumbnail(context: Context, folder: Path, name: str, query: QueryParams) -> Response:
    """Raises `NotFound`, also for an image that can't be decoded or is outside the folder and the roots."""
    side = max(16, number(query.get("side", "160"), "side", most=MAX_SIDE))
    try:
        file = await asyncio.to_thread(_file, folder, name, context.settings.root_paths)
        content = await thumbnails.thumbnail(file, side)
    except NotFound:
        if query.get("placeholder") != "true":
            raise
        content = thumbnails.placeholder()
    return Response(content, media_type=WEBP, headers=KEPT)


def _file(folder: Path, name: str, roots: Sequence[Path]) -> Path:
    """The file of this name. A link may lead outside the folder, but not outside the roots."""
    try:
        path = (folder / name).resolve()
        is_allowed = any(path.is_relative_to(root) for root in [folder.resolve(), *roots])
    except (OSError, ValueError):
        is_allowed = False
    if not is_allowed or Path(name).is_absolute() or ".." in Path(name).parts:
        raise NotFound(f"Image {name[:200]!r} not found in the project.")
    return path
