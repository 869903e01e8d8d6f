"""Writes what a client sends to the folder of an upload."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request

from tfserve.archives.entries import ArchiveEntry, conflict, name_problem
from tfserve.config import Settings
from tfserve.errors import Invalid
from tfserve.uploads.store import ReceivedFile, Upload
from tfserve.web.api.uploads.form_parts import Event, PartBegin, PartEnd, form_parts
from tfserve.web.http.body_stream import stream_body
from tfserve.web.http.disk_writer import disk_writer

FIELDS = ("name", "sha256", "unpack")
MAX_FIELD_BYTES = 1024
WHAT = "max_upload_bytes"


async def receive_whole(upload: Upload, request: Request, settings: Settings) -> ReceivedFile:
    """The body, as one file."""
    async with disk_writer(upload.received / "0") as writer:
        async for piece in stream_body(
            request.scope, request.receive, settings, limit=settings.max_upload_bytes, what=WHAT
        ):
            await writer.write(piece)
    return ReceivedFile(upload.record.name, upload.received / "0", writer.sha256)


async def receive_rest(upload: Upload, request: Request, settings: Settings) -> ReceivedFile:
    """Appends the body to what has arrived before. What arrives is kept, however the request ends."""
    offset, size = upload.offset, upload.record.size or 0
    what = f"what is missing of the {size} bytes that this upload was created for"
    async with disk_writer(upload.received / "0", append=True) as writer:
        async for piece in stream_body(request.scope, request.receive, settings, limit=size - offset, what=what):
            await writer.write(piece)
    return ReceivedFile(upload.record.name, upload.received / "0", writer.sha256 if offset == 0 else None)


class FormReader:
    """Receives a form: its files, and the fields that are also query parameters."""

    def __init__(self, upload: Upload, request: Request, settings: Settings) -> None:
        self.files: list[ReceivedFile] = []
        self.fields: dict[str, str] = {}
        self._upload = upload
        self._limit = settings.max_upload_bytes
        pieces = stream_body(request.scope, request.receive, settings, limit=self._limit, what=WHAT)
        self._events = form_parts(request.headers.get("content-type", ""), pieces)

    async def read(self) -> None:
        async for event in self._events:
            if not isinstance(event, PartBegin):
                continue
            if event.filename is None:
                await self._read_field(event.name)
            else:
                await self._read_file(event.filename)
        entries = [ArchiveEntry(index, each.name, 0) for index, each in enumerate(self.files)]
        if (conflicting := conflict(entries)) is not None:
            raise Invalid(f"The form has the file {conflicting[0].name[:100]!r} twice. Give each file its own name.")
        if not self.files:
            raise Invalid("The form has no file. Send one, for example with: curl -F file=@model.zip")

    async def _read_file(self, name: str) -> None:
        if (problem := name_problem(name)) is not None or not name.strip(" ./\\"):
            raise Invalid(f"The file name {name[:100]!r} can't be used: {problem or 'it is empty'}.")
        path = self._upload.received / str(len(self.files))
        async with disk_writer(path) as writer:
            async for piece in _content(self._events):
                await writer.write(piece)
        self.files.append(ReceivedFile(name, path, writer.sha256))

    async def _read_field(self, name: str) -> None:
        if name not in FIELDS:
            raise Invalid(f"The form has the field {name[:100]!r}; expected files, and {', '.join(FIELDS)}.")
        value = b""
        async for piece in _content(self._events):
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise Invalid(f"The field {name!r} has more than {MAX_FIELD_BYTES} bytes.")
        self.fields[name] = value.decode("utf-8", "replace")


async def _content(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The content of the part that has just begun."""
    async for event in events:
        if isinstance(event, PartEnd):
            return
        if isinstance(event, bytes):
            yield event
