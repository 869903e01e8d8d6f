"""Endpoints for people: what a check of a project finds before the training, and thumbnails of its images."""

from __future__ import annotations

import asyncio
import io
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
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.search import is_image
from tfserve.training.recipes import parameters
from tfserve.web.api.endpoint import Context, Format, Schema, Table
from tfserve.web.api.training.handlers import TASK_ID, project_folder, task_of
from tfserve.web.api.workspace.reading import number

ENDPOINTS = Table(Format.PLAIN, Scope.TRAIN)

SIDE: Schema = {"type": "integer", "minimum": 16, "maximum": 1024, "default": 160, "description": "larger side, pixels"}
PLACEHOLDER: Schema = {"type": "boolean", "default": False, "description": "a grey image instead of status 404"}
MAX_SIDE = 1024
WEBP = "image/webp"
AT_A_TIME = asyncio.Semaphore(2)
"""Decoding takes processor time from predictions."""
KEPT = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "sandbox; default-src 'none'"}


class ProjectCheck(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of `POST /training/check/`."""

    projectDir: Annotated[str, Meta(description="path of the project folder, or upload:<id>", min_length=1)]  # noqa: N815
    trainType: Annotated[str, Meta(description="classification, segmentation or detection (case-insensitive)")]  # noqa: N815
    parameters: Annotated[dict[str, Any], Meta(description="see GET /training/parameters/")] = {}


@ENDPOINTS.post(
    "/training/check/",
    ProjectCheck,
    summary="check a project as a training does, without starting one",
    returns="{problems, skipped, skipped_count, image_count, classes, dataset, samples}; problems prevent a training",
    needs_body=True,
)
async def check_project(context: Context, check: ProjectCheck) -> dict[str, Any]:
    train_type = parameters.train_type(check.trainType)
    chosen = parameters.complete(train_type, check.parameters)
    folder = await project_folder(context, check.projectDir)
    found = await context.line.ask(CheckProject(project_dir=str(folder), train_type=train_type, parameters=chosen))
    content: dict[str, Any] = msgspec.to_builtins(found)
    return content


@ENDPOINTS.get(
    "/training/thumbnail",
    summary="get a small version of an image in a project folder",
    returns="a WebP image",
    parameters={
        "projectDir": {"type": "string", "description": "path of the project folder, or upload:<id>"},
        "path": {"type": "string", "description": "path of the image in the project folder"},
        "side": SIDE,
        "placeholder": PLACEHOLDER,
    },
    media=(WEBP,),
)
async def project_thumbnail(context: Context, request: Request) -> Response:
    query = request.query_params
    if not query.get("projectDir") or not query.get("path"):
        raise Invalid("projectDir and path are required: a project folder, and an image in it.")
    folder = await project_folder(context, query["projectDir"])
    return await _thumbnail(context, folder, query["path"], query)


@ENDPOINTS.get(
    "/tasks/{id}/images/{path}",
    summary="get a small version of an image that a task trains on",
    returns="a WebP image",
    parameters={**TASK_ID, "path": {"type": "string"}, "side": SIDE, "placeholder": PLACEHOLDER},
    media=(WEBP,),
)
async def task_image(context: Context, request: Request) -> Response:
    folder = Path((await task_of(request)).project_dir)
    return await _thumbnail(context, folder, request.path_params["path"], request.query_params)


# --- parts


async def _thumbnail(context: Context, folder: Path, name: str, query: QueryParams) -> Response:
    """Raises `NotFound`, also for an image that can't be decoded or is outside the folder or the roots."""
    side = max(16, number(query.get("side", "160"), "side", most=MAX_SIDE))
    roots = [folder.resolve(), *context.settings.root_paths]
    try:
        async with AT_A_TIME:
            content = await asyncio.to_thread(_small, folder, name, side, roots)
    except NotFound:
        if query.get("placeholder") != "true":
            raise
        content = GREY
    return Response(content, media_type=WEBP, headers=KEPT)


def _small(folder: Path, name: str, side: int, roots: list[Path]) -> bytes:
    try:
        path = (folder / name).resolve()
        if not any(path.is_relative_to(root) for root in roots) or not _is_inside(name) or not is_image(path):
            raise NotFound(f"Image {name[:200]!r} not found in the project.")
        image = image_reading.thumbnail(path, side)
    except (image_reading.Bad, OSError, ValueError) as error:
        raise NotFound(f"Image {name[:200]!r} can't be shown: {error}.") from None
    return _webp(image)


def _webp(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WebP", quality=80)
    return buffer.getvalue()


def _is_inside(name: str) -> bool:
    """Whether a path cannot leave the folder that it is relative to, except by a link."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _grey() -> bytes:
    from PIL import Image

    return _webp(Image.new("RGB", (16, 16), (160, 160, 160)))


GREY = _grey()
