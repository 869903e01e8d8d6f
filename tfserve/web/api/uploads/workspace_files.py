"""The endpoints for the files in the folder of a workspace."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tfserve.access.principals import Scope
from tfserve.archives.entries import name_problem
from tfserve.errors import Invalid
from tfserve.ipc.messages import GetWorkspace
from tfserve.web.api.endpoint import ANY_FILE, BINARY, BYTES, JSON, Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.uploads.receiving import WHAT
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.api.workspace.reading import flag, page, page_of
from tfserve.web.http.body_stream import content_length, stream_body
from tfserve.web.http.disk_writer import disk_writer, on_disk
from tfserve.web.http.guarded_folder import FolderEntry, GuardedFolder
from tfserve.web.http.user_files import file_response

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.SUBMIT, Tag.FILES)

PATH = "/workspaces/{name}/files/{path}"
INCOMING = "incoming"
"""Files that are being received, next to the folder of the workspace and therefore on the same disk."""
PARAMETERS: dict[str, Schema] = {
    "name": {"type": "string", "description": "name of the workspace"},
    "path": {"type": "string", "description": "path in the folder of the workspace"},
}


class StoredFile(msgspec.Struct, kw_only=True):
    """A file that was stored."""

    path: str
    size: int
    sha256: str


class FolderListing(msgspec.Struct, kw_only=True):
    """One page of a folder's entries, by name."""

    path: str
    entries: list[FolderEntry]
    total: int


@ENDPOINTS.add(
    "PUT",
    PATH,
    summary="store the body as a file of the workspace, replacing the file in one step",
    returns="the stored file; folders above it are created",
    parameters=PARAMETERS,
    accepts={BYTES: BINARY},
    result=StoredFile,
)
async def put_workspace_file(context: Context, request: Request) -> StoredFile:
    path = _path_of_file(request.path_params["path"])
    root = await _root(context, request)
    folder = GuardedFolder(root)
    await on_disk(partial(folder.check_target, path))
    check = partial(context.uploads.check_quota, context.owner, context.settings.upload_quota_bytes)
    await on_disk(partial(check, more=content_length(request.scope) or 0))
    async with _incoming(root) as file:
        async with disk_writer(file) as writer:
            async for piece in stream_body(
                request.scope, request.receive, context.settings, limit=context.settings.max_upload_bytes, what=WHAT
            ):
                await writer.write(piece)
            await writer.finish(sync=True)
        await on_disk(partial(check, more=writer.size))  # the length may not have been announced
        await on_disk(partial(folder.replace, file, path))
        await on_disk(partial(context.uploads.stored.add, root, context.owner, path, writer.size))
    return StoredFile(path=path, size=writer.size, sha256=writer.sha256)


@ENDPOINTS.add(
    "GET",
    PATH,
    summary="download a file of the workspace (Range is supported), or list a folder",
    returns="the file, or the folder's entries with type, size and time",
    parameters={**PARAMETERS, **page_of("entries")},
    result=FolderListing,
    media=(JSON, ANY_FILE),
)
async def get_workspace_file(context: Context, request: Request) -> FolderListing | Response:
    path = request.path_params["path"]
    folder = GuardedFolder(await _root(context, request))
    descriptor = await on_disk(partial(folder.open_file, path))
    if descriptor is not None:
        return file_response(Path(path), descriptor=descriptor)
    shown = page(request)
    entries = await on_disk(partial(folder.entries, path))
    end = shown["offset"] + shown["limit"]
    return FolderListing(path=path, entries=entries[shown["offset"] : end], total=len(entries))


@ENDPOINTS.add(
    "DELETE",
    PATH,
    summary="delete a file or folder of the workspace",
    returns="true",
    parameters={
        **PARAMETERS,
        "recursive": {"type": "boolean", "default": False, "description": "delete a folder with all that is in it"},
    },
    result=bool,
)
async def delete_workspace_file(context: Context, request: Request) -> bool:
    recursive = flag(request.query_params.get("recursive", "false"), "recursive")
    folder = GuardedFolder(await _root(context, request))
    await on_disk(partial(folder.delete, request.path_params["path"], recursive=recursive))
    return True


def _path_of_file(given: str) -> str:
    """The path relative to the folder, in the one form that its size is noted under. Raises `Invalid`."""
    relative = given.strip("/")
    if (problem := name_problem(relative)) is not None or given.endswith("/"):
        raise Invalid(f"{given[:200]!r} can't be the path of a file: {problem or 'it ends with /'}.", field="path")
    return posixpath.normpath(relative) if relative else ""


async def _root(context: Context, request: Request) -> Path:
    """The folder of the workspace. Raises `NoSuchWorkspace`, `ServiceOff`."""
    status = await context.line.ask(GetWorkspace(name=workspace_name(request.path_params["name"])))
    return Path(status["folder"])


@asynccontextmanager
async def _incoming(root: Path) -> AsyncIterator[Path]:
    """The path of a temporary file, which is removed unless it was moved."""
    folder = root.parent / INCOMING
    await on_disk(partial(folder.mkdir, mode=0o700, exist_ok=True))
    file = folder / secrets.token_hex(16)
    try:
        yield file
    finally:
        await on_disk(partial(file.unlink, missing_ok=True))
