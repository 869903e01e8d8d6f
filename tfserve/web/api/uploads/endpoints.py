"""The endpoints for uploads: create one at once or in pieces, read its progress, list and delete."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from tfserve.access.principals import Scope
from tfserve.errors import Conflict, Invalid
from tfserve.ipc.messages import DeleteUpload
from tfserve.uploads.record import UploadState
from tfserve.uploads.store import PREFIX, Upload, check_name
from tfserve.web.api.endpoint import BINARY, BYTES, FILE_FORM, Context, EndpointTable, Format, Schema, Tag
from tfserve.web.api.uploads.completing import complete, complete_or_refuse
from tfserve.web.api.uploads.receiving import WHAT, FormReader, receive_rest, receive_whole
from tfserve.web.api.workspace.reading import number
from tfserve.web.http import multipart
from tfserve.web.http.body_stream import StreamTooLarge, content_length
from tfserve.web.http.disk_writer import on_disk

ENDPOINTS = EndpointTable(Format.ENVELOPE, Scope.UPLOAD, Tag.UPLOADS)

ID: dict[str, Schema] = {"id": {"type": "string", "description": "the upload's `id`"}}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHOICES = {"true": True, "1": True, "false": False, "0": False}


class WrongOffset(Conflict):
    """Upload {id} has {offset} bytes, so the next piece begins at offset {offset}; got {given}."""


class NotReceiving(Conflict):
    """Upload {id} is {state}, so nothing can be added."""


class UploadInfo(msgspec.Struct, kw_only=True):
    """An upload, as responses describe it."""

    id: str
    path: Annotated[str, Meta(description="what path, projectDir, job and weights accept; /a/path may follow")]
    name: str
    state: UploadState
    offset: Annotated[int, Meta(description="bytes that have arrived")]
    size: Annotated[int | None, Meta(description="bytes in total, if known")]
    progress: Annotated[float, Meta(description="0 to 100")]
    sha256: Annotated[str | None, Meta(description="checksum of the file: as announced, or of what arrived")]
    files: Annotated[int, Meta(description="number of files, once it is complete")]
    stored_bytes: Annotated[int, Meta(description="size of the files, once it is complete")]
    reason: Annotated[str, Meta(description="why it was refused")]
    created_at: str


class UploadList(msgspec.Struct, kw_only=True):
    """The uploads of the client, oldest first, and what they take of its quota."""

    uploads: list[UploadInfo]
    used_bytes: int
    quota_bytes: int


@ENDPOINTS.add(
    "POST",
    "/upload/",
    summary="upload an archive or files: as a form, as the body, or in pieces (size and no body)",
    returns="the upload; its `path` (upload:<id>) is accepted wherever a path is",
    parameters={
        "name": {"type": "string", "description": "file name; required unless the body is a form"},
        "size": {"type": "integer", "minimum": 1, "description": "bytes; without a body: send them later by PATCH"},
        "sha256": {"type": "string", "description": "checksum of the file in hexadecimal digits, which is verified"},
        "unpack": {"type": "boolean", "default": True, "description": "unpack .zip, .tar, .tar.gz and .tgz files"},
    },
    accepts={multipart.MEDIA: FILE_FORM, BYTES: BINARY},
    result=UploadInfo,
)
async def create_upload(context: Context, request: Request) -> UploadInfo:
    length = content_length(request.scope)
    form = multipart.is_multipart(request.headers.get("content-type", ""))
    options = _options(request.query_params)
    size = options.get("size", length)
    if size is not None and size > context.settings.max_upload_bytes:
        raise StreamTooLarge(limit=context.settings.max_upload_bytes, what=WHAT)
    if not _has_body(request):
        return await _create_for_pieces(context, options)
    if not form and "name" not in options:
        raise Invalid("name is missing: the file's name, as in POST /upload/?name=model.zip", field="name")
    async with _new(context, {"name": "form", **options, "size": size}) as upload:
        await (_from_form if form else _from_body)(context, request, upload, options)
        return _info(upload)


@ENDPOINTS.add(
    "PATCH",
    "/upload/{id}",
    summary="add the next piece of an upload that was created with its size",
    returns="the upload; it is complete when all bytes have arrived",
    parameters={**ID, "offset": {"type": "integer", "minimum": 0, "description": "the upload's offset so far"}},
    accepts={BYTES: BINARY},
    result=UploadInfo,
)
async def append_to_upload(context: Context, request: Request) -> UploadInfo:
    content_length(request.scope)
    upload = await _find(context, request)
    given = number(request.query_params.get("offset", ""), "offset")
    with upload.locked():
        if upload.record.state is not UploadState.RECEIVING:
            raise NotReceiving(id=upload.record.id, state=upload.record.state)
        if given != upload.offset:
            raise WrongOffset(id=upload.record.id, offset=upload.offset, given=given)
        await on_disk(upload.touch)
        file = await receive_rest(upload, request, context.settings)
        if upload.offset == upload.record.size:
            await complete_or_refuse(context.uploads, upload, file, context.settings)
        return _info(upload)


@ENDPOINTS.add(
    "GET",
    "/upload/{id}",
    summary="get the progress of an upload: state, and the offset to continue from",
    returns="the upload",
    parameters=ID,
    result=UploadInfo,
)
async def get_upload(context: Context, request: Request) -> UploadInfo:
    return await on_disk(partial(_info, await _find(context, request)))


@ENDPOINTS.add("GET", "/upload/", summary="list your uploads", returns="the uploads, oldest first", result=UploadList)
async def list_uploads(context: Context, _: Request) -> UploadList:
    return await on_disk(partial(_list, context))


@ENDPOINTS.add(
    "DELETE",
    "/upload/{id}",
    summary="delete an upload, unless a deployment, a job or a training uses it",
    returns="true",
    parameters=ID,
    result=bool,
)
async def delete_upload(context: Context, request: Request) -> bool:
    upload = await _find(context, request)
    await context.line.ask(DeleteUpload(id=upload.record.id))
    return True


# --- parts


@asynccontextmanager
async def _new(context: Context, options: dict[str, Any]) -> AsyncIterator[Upload]:
    """A new upload, which is removed if it does not become complete."""
    upload = await _create(context, options)
    try:
        with upload.locked():
            yield upload
    finally:
        if upload.record.state is not UploadState.COMPLETE:
            await on_disk(partial(context.uploads.remove, upload.folder))


async def _create(context: Context, options: dict[str, Any]) -> Upload:
    fields = {**options}
    create = partial(context.uploads.create, context.owner, fields.pop("name"))
    return await on_disk(partial(create, quota_bytes=context.settings.upload_quota_bytes, **fields))


async def _create_for_pieces(context: Context, options: dict[str, Any]) -> UploadInfo:
    if "size" not in options or "name" not in options:
        raise Invalid("The body is empty. Send the file, or name and size to send it in pieces by PATCH.")
    return _info(await _create(context, {**options, "is_resumable": True}))


async def _from_body(context: Context, request: Request, upload: Upload, options: dict[str, Any]) -> None:
    file = await receive_whole(upload, request, context.settings)
    if options.get("size", upload.offset) != upload.offset:
        raise Invalid(f"expected a body of {options['size']} bytes (size), got {upload.offset}", field="size")
    await _complete(context, upload, [file])


async def _from_form(context: Context, request: Request, upload: Upload, options: dict[str, Any]) -> None:
    form = FormReader(upload, request, context.settings)
    await form.read()
    fields = {**options, **_options(form.fields)}
    if len(form.files) == 1 and "name" in fields:
        form.files[0] = form.files[0]._replace(name=fields["name"])
    changes = {name: fields[name] for name in ("sha256", "unpack") if name in fields}
    upload.record = msgspec.structs.replace(upload.record, name=form.files[0].name, **changes)
    await _complete(context, upload, form.files)


async def _complete(context: Context, upload: Upload, files: list[Any]) -> None:
    limit = context.settings.upload_quota_bytes
    await on_disk(partial(context.uploads.check_quota, context.owner, limit))  # the size may not have been announced
    await complete(context.uploads, upload, files, context.settings)


async def _find(context: Context, request: Request) -> Upload:
    return await on_disk(partial(context.uploads.find, request.path_params["id"], context.sees_owner))


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or bool(content_length(request.scope))


def _options(query: Any) -> dict[str, Any]:
    """The options of an upload, from the query or a form. Raises `Invalid`."""
    options: dict[str, Any] = {}
    if "name" in query:
        options["name"] = query["name"]
        check_name(options["name"])
    if "size" in query:
        options["size"] = number(query["size"], "size")
        if not options["size"]:
            raise Invalid("size must be at least 1", field="size")
    if "sha256" in query:
        options["sha256"] = query["sha256"].lower()
        if not _SHA256.fullmatch(options["sha256"]):
            raise Invalid("sha256 must be 64 hexadecimal digits", field="sha256")
    if "unpack" in query:
        if query["unpack"].lower() not in _CHOICES:
            raise Invalid(f"unpack must be true or false, got {query['unpack'][:40]!r}", field="unpack")
        options["unpack"] = _CHOICES[query["unpack"].lower()]
    return options


def _list(context: Context) -> UploadList:
    found = context.uploads.of(context.owner)
    used = context.uploads.used_bytes(context.owner)
    return UploadList(
        uploads=[_info(each) for each in found], used_bytes=used, quota_bytes=context.settings.upload_quota_bytes
    )


def _info(upload: Upload) -> UploadInfo:
    record, offset = upload.record, upload.offset
    size = record.size if record.size is not None else (offset if record.state is UploadState.COMPLETE else None)
    done = record.state is UploadState.COMPLETE
    return UploadInfo(
        id=record.id,
        path=f"{PREFIX}{record.id}",
        name=record.name,
        state=record.state,
        offset=offset,
        size=size,
        progress=100.0 if done else round(100 * offset / size, 1) if size else 0.0,
        sha256=record.sha256,
        files=record.files,
        stored_bytes=record.stored_bytes,
        reason=record.reason,
        created_at=datetime.fromtimestamp(record.created_at, UTC).isoformat(),
    )
