"""Forms with files (multipart/form-data)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from email.message import Message
from typing import NamedTuple

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from tfserve.errors import Invalid

MEDIA = "multipart/form-data"


class MultipartForm(NamedTuple):
    """Text fields and the contents of files by name, in the order of the form. A name may occur more than once."""

    fields: list[tuple[str, str]]
    files: list[tuple[str, bytes]]


def is_multipart(content_type: str) -> bool:
    return content_type.strip().lower().startswith("multipart/")


async def read(body: bytes, content_type: str, *, max_fields: int, max_files: int) -> MultipartForm:
    """Raises `Invalid` if a form is malformed or truncated, or has too many parts."""

    async def stream() -> AsyncGenerator[bytes]:
        yield body
        yield b""

    headers = Headers({"content-type": content_type})
    try:
        form = await MultiPartParser(headers, stream(), max_files=max_files, max_fields=max_fields).parse()
    except (MultiPartException, KeyError) as error:
        raise Invalid(f"Invalid form data: {getattr(error, 'message', error)}.") from None
    try:
        if not _is_closed(content_type, body):
            raise Invalid("The form was cut off: its closing boundary is missing. Send it again.")
        parts = form.multi_items()
        files = [(name, await part.read()) for name, part in parts if isinstance(part, UploadFile)]
        return MultipartForm([(name, part) for name, part in parts if isinstance(part, str)], files)
    finally:
        await form.close()


def _is_closed(content_type: str, body: bytes) -> bool:
    boundary = Message()
    boundary["content-type"] = content_type
    return f"--{boundary.get_boundary('')}--".encode("latin-1") in body
