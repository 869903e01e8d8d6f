"""ASGI middleware: who sends a request. What a sender may do is decided where its request is understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.access.principals import ANONYMOUS, EVERYBODY, PRINCIPAL, Principal
from tfserve.errors import Unauthenticated
from tfserve.web.access.authenticator import Authenticator, TokenMissing

PUBLIC = ("/v2/health/", "/static/")
"""Probes of orchestrators have no token, and the log-in page needs its style sheet."""
PAGES = "/pages/"


class Authentication:
    """Sets `PRINCIPAL`. Raises `Unauthenticated`, except for pages, which show the log-in form instead."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self._authenticator.is_required:
                PRINCIPAL.set(await self._principal(scope))
            else:
                PRINCIPAL.set(EVERYBODY)
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        authorization = api_key = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                api_key = value
        if scope["path"].startswith(PUBLIC):
            return ANONYMOUS
        try:
            found = self._authenticator.principal(authorization, api_key)
        except Unauthenticated:
            await self._authenticator.failed_attempts.note(address_of(scope), "refused token")
            raise
        if found is None and not is_page(scope):
            raise TokenMissing
        return found or ANONYMOUS


def is_page(scope: Scope) -> bool:
    """Whether Django serves it, which asks people without a session to log in."""
    path = scope["path"]
    if path == "/":
        return scope["method"] in ("GET", "HEAD") and b"taskId" not in scope["query_string"]
    return bool(path.startswith(PAGES))


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address, for the log."""
    return str((scope.get("client") or ("unknown",))[0])
