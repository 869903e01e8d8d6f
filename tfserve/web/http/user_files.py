"""Serves files made by users or their programs so that a browser never runs them with this server's origin."""

from __future__ import annotations

import mimetypes
import os
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

SHOWN = frozenset(
    {"application/json", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp", "text/csv", "text/plain"}
)
"""Media types that browsers do not execute. All others (HTML, SVG, XML, scripts, PDF, …) are only downloaded."""
SANDBOX = "sandbox; default-src 'none'; frame-ancestors 'none'"


class _OpenFile(FileResponse):
    """A file that is open already. It is closed at the end."""

    def __init__(self, descriptor: int, **options: Any) -> None:
        super().__init__(f"/proc/self/fd/{descriptor}", **options)
        self._descriptor = descriptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


def file_response(path: Path, *, descriptor: int | None = None) -> FileResponse:
    """The file with its media type; as an attachment unless its type is one of `SHOWN`.

    With a `descriptor`, that file is sent, whatever is at `path` by then. It is closed afterwards.
    """
    media_type, encoding = mimetypes.guess_type(path)
    if media_type is None or encoding is not None:
        media_type = "application/octet-stream"
    make = partial(FileResponse, path) if descriptor is None else partial(_OpenFile, descriptor)
    return make(
        media_type=media_type,
        filename=path.name,
        content_disposition_type="inline" if media_type in SHOWN else "attachment",
        headers={"Content-Security-Policy": SANDBOX},  # `make_server` adds nosniff
    )
