"""CORS: lets the web pages of the configured origins use the APIs.

Starlette's middleware decides, in two layers. Outside of the request boundary, responses get their headers, error
responses too. Inside of it, preflight requests are answered, with a request id and a line in the access log.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.web.http.guard import ForeignOrigin
from tfserve.web.http.responses import ORIGIN_HEADERS

VARY = (b"vary", b"Origin")


class CrossOrigin:
    """ASGI middleware: the headers of all responses."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._cors = _cors(app, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope[ORIGIN_HEADERS] = self._headers(headers.get("origin"))
        await self._cors.simple_response(scope, receive, send, request_headers=headers)

    def _headers(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """The same headers for responses in one write, which do not pass through the middleware."""
        if origin is None or not self._cors.is_allowed_origin(origin):
            return [VARY]
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [VARY, allowed, (b"access-control-expose-headers", b"*")]


class Preflights:
    """ASGI middleware: the requests with which browsers ask whether a page may send another one.

    Raises `ForeignOrigin`.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app = app
        self._cors = _cors(app, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "OPTIONS":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or "access-control-request-method" not in headers:
            await self._app(scope, receive, send)
        elif self._cors.is_allowed_origin(origin):
            await self._cors.preflight_response(headers)(scope, receive, send)
        else:
            raise ForeignOrigin(origin=origin)


def _cors(app: ASGIApp, origins: frozenset[str]) -> CORSMiddleware:
    """Cookies are never sent: clients authenticate in a header, which the page must set itself."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("*",),
        allow_headers=("*",),
        expose_headers=("*",),
        allow_private_network=True,
    )
