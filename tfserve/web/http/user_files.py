"""Serves files made by users or their programs so that a browser never runs them with this server's origin."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.responses import FileResponse

SHOWN = frozenset(
    {"application/json", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp", "text/csv", "text/plain"}
)
"""Media types that browsers do not execute. All others (HTML, SVG, XML, scripts, PDF, …) are only downloaded."""
SANDBOX = "sandbox; default-src 'none'; frame-ancestors 'none'"


def file_response(path: Path) -> FileResponse:
    """The file with its media type; as an attachment unless its type is one of `SHOWN`."""
    media_type, encoding = mimetypes.guess_type(path)
    if media_type is None or encoding is not None:
        media_type = "application/octet-stream"
    return FileResponse(
        path,
        media_type=media_type,
        filename=path.name,
        content_disposition_type="inline" if media_type in SHOWN else "attachment",
        headers={"Content-Security-Policy": SANDBOX},  # `make_server` adds nosniff
    )
