"""The files of the pages, with headers that let browsers keep them."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from tfserve.errors import NotFound
from tfserve.web.http.responses import MethodNotAllowed

PACKAGES = ("tfserve.web.pages", "django_htmx", "drf_spectacular_sidecar")
"""The packages with files. The last one has those of Swagger UI."""
FAVICON = "/static/pages/favicon.ico"
IMMUTABLE = b"public, max-age=31536000, immutable"
"""For a URL that differs for each content of the file."""
REVALIDATE = b"public, no-cache"
"""Browsers keep the file, but check by its ETag that it has not changed."""


class Static:
    """Raises `NotFound` for missing files."""

    def __init__(self, caching: bytes = REVALIDATE) -> None:
        self._caching = caching
        self._files = StaticFiles(packages=[(package, "static") for package in PACKAGES])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_cached(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", self._caching)]
            await send(message)

        try:
            await self._files(scope, receive, send_cached)
        except HTTPException as error:
            path = scope["path"][:200]
            if error.status_code == 405:
                raise MethodNotAllowed(f"{path!r} is a file. Use GET or HEAD.", "GET", "HEAD") from None
            raise NotFound(f"File {path!r} not found.") from None


class Favicon(Static):
    """`/favicon.ico`, which browsers request for pages that are not ours, such as JSON."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__({**scope, "path": FAVICON, "root_path": "/static"}, receive, send)
