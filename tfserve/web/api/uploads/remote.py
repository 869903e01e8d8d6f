"""A remote address in place of a path: its files become an upload of the sender, with the same checks and quotas."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from tfserve.archives.entries import name_problem
from tfserve.config import Settings
from tfserve.errors import Unavailable
from tfserve.remote_sources import RemoteSource, allowed_source
from tfserve.uploads.record import UploadState
from tfserve.uploads.store import ReceivedFile, Upload, Uploads
from tfserve.web.api.uploads.completing import complete, room_for
from tfserve.web.api.uploads.programs import run_program
from tfserve.web.http.disk_writer import on_disk

_AT_ONCE = 2
_fetching = asyncio.Semaphore(_AT_ONCE)


class FetchingEnded(Unavailable):
    """The process that fetches {source} was ended by signal {signal}. Try again."""


async def fetched(url: str, uploads: Uploads, owner: str, settings: Settings) -> Upload:
    """A complete upload with the files at this address.

    Raises `SourceNotAllowed`, `SourceNotPublic`, `Invalid`, the errors of `fetching.fetch` and those of an upload.
    """
    source = allowed_source(url, settings.remote_source_list)
    name = source.name if name_problem(source.name) is None else "model"
    create = partial(uploads.create, owner, name, quota_bytes=settings.upload_quota_bytes)
    upload = await on_disk(create)
    try:
        with upload.locked():
            files = await _fetch(source, uploads, upload, settings)
            await complete(uploads, upload, files, settings)
    finally:
        if upload.record.state is not UploadState.COMPLETE:
            await on_disk(partial(uploads.remove, upload.folder))
    return upload


async def _fetch(source: RemoteSource, uploads: Uploads, upload: Upload, settings: Settings) -> list[ReceivedFile]:
    request = {
        "url": source.url,
        "allowed": [str(each) for each in settings.remote_source_list],
        "folder": str(upload.received),
        "max_bytes": settings.max_upload_bytes,
        "room": await on_disk(partial(room_for, uploads, upload, settings)),
    }
    async with _fetching:
        names = await run_program(
            "tfserve.remote_files", result=list[str], request=msgspec.json.encode(request), shows_errors=False,
            ended=lambda signal: FetchingEnded(source=source, signal=signal),
        )  # fmt: skip
    return [ReceivedFile(name, upload.received / str(index)) for index, name in enumerate(names)]
