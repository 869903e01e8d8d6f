"""ASGI middleware: who sends a request. What a sender may do is decided where its request is understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.access.principals import ADDRESS, ANONYMOUS, EVERYBODY, PRINCIPAL, Principal
from tfserve.errors import Unauthenticated
from tfserve.web.access.authenticator import Authenticator, TokenMissing
from tfserve.web.access.token_limits import TokenLimits

PUBLIC = ("/v2/health/", "/static/")
"""Probes of orchestrators have no token, and the log-in page needs its style sheet."""
PAGES = "/pages/"


class Authentication:
    """Sets `PRINCIPAL`. Raises `Unauthenticated`, except for pages, which show the log-in form instead."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, limits: TokenLimits) -> None:
        self._app = app
        self._limits = limits
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            ADDRESS.set(address_of(scope))
            if self._authenticator.is_required:
                await self._authenticated(scope, receive, send)
                return
            PRINCIPAL.set(EVERYBODY)
        await self._app(scope, receive, send)

    async def _authenticated(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = await self._principal(scope)
        PRINCIPAL.set(principal)
        size = 0 if principal is ANONYMOUS else self._limits.begin(principal, _body_length(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            if size:
                self._limits.end(principal, size)

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
            await self._authenticator.failed_attempts.note("refused token")
            raise
        if found is None and not is_page(scope):
            raise TokenMissing
        return found or ANONYMOUS


def _body_length(scope: Scope) -> int | None:
    """The announced length of the body; None if only its end will tell."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else None
        if name == b"transfer-encoding":
            length = None
    return length


def is_page(scope: Scope) -> bool:
    """Whether Django serves it, which asks people without a session to log in."""
    path = scope["path"]
    if path == "/":
        return scope["method"] in ("GET", "HEAD") and b"taskId" not in scope["query_string"]
    return bool(path.startswith(PAGES))


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address, for the log."""
    return str((scope.get("client") or ("unknown",))[0])
