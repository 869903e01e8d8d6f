"""ASGI middleware that finds the sender of each request. What it may do is decided where the request is understood."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.access.principals import ADDRESS, ANONYMOUS, EVERYBODY, PRINCIPAL, Principal
from tfserve.errors import Unauthenticated
from tfserve.web.access.authenticator import Authenticator, TokenMissing
from tfserve.web.access.lasting_requests import LASTING, LastingRequest, LastingSessions
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.http.body_stream import held_bytes

PUBLIC = ("/v2/health/", "/static/", "/favicon.ico")
"""Probes of orchestrators have no token, and the log-in page needs its style sheet."""
PAGES = "/pages/"
DOCS = ("/docs", "/docs/")
"""The interactive reference. The page has no data: it reads the OpenAPI document with the token of its user."""


SessionOf = Callable[[Scope], Awaitable[Principal | None]]


class Authentication:
    """Sets `PRINCIPAL`. Raises `Unauthenticated`, except for pages, which show the log-in form instead.

    `session_of` finds the person whose page sent a request without a token. A browser at any other path without either
    gets the log-in form of `pages`, which leads back to that path.
    """

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, limits: TokenLimits, session_of: SessionOf, pages: ASGIApp
    ) -> None:
        self._app = app
        self._pages = pages
        self._session_of = session_of
        self._lasting_sessions = LastingSessions(session_of)
        self.limits = limits
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ADDRESS.set(address_of(scope))
        if not self._authenticator.is_required:
            PRINCIPAL.set(EVERYBODY)
            await self._app(scope, receive, send)
            return
        authorization = api_key = None
        length: int | None = 0
        for name, value in scope["headers"]:  # once, because every prediction passes through here
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                api_key = value
            elif name == b"content-length":
                length = _number(value)
            elif name == b"transfer-encoding":
                length = None
        try:
            principal = self._authenticator.principal(authorization, api_key)
        except Unauthenticated:
            if scope["path"].startswith(PUBLIC):
                principal = ANONYMOUS
            else:
                await self._authenticator.failed_attempts.note("refused token")
                raise
        if principal is None:
            principal = ANONYMOUS if is_open(scope) else await self._session_of(scope)
            if principal is None and not is_navigation(scope):
                raise TokenMissing
            if principal is None:
                PRINCIPAL.set(ANONYMOUS)
                await self._pages(scope, receive, send)
                return
        PRINCIPAL.set(principal)
        size = self.limits.begin(principal, held_bytes(scope, length))
        lasting = self._lasting(scope, receive, send, authorization, api_key)
        if principal is not ANONYMOUS:
            lasting.require_sender()
        try:
            await self._app(scope, lasting.receive, lasting.send)
        finally:
            lasting.over()
            if size:
                self.limits.end(principal, size)

    def _lasting(
        self, scope: Scope, receive: Receive, send: Send, authorization: bytes | None, api_key: bytes | None
    ) -> LastingRequest:
        lasting = scope[LASTING] = LastingRequest(
            scope,
            receive,
            send,
            check=lambda: self._check_again(scope, authorization, api_key),
            watch=lambda end: self._authenticator.watch(authorization, api_key, end),
            unwatch=self._authenticator.unwatch,
        )
        return lasting

    async def _check_again(self, scope: Scope, authorization: bytes | None, api_key: bytes | None) -> None:
        if authorization is not None or api_key is not None:
            self._authenticator.check_again(authorization, api_key)
        elif self._authenticator.is_required:
            await self._lasting_sessions.check(scope)

    @property
    def is_required(self) -> bool:
        return self._authenticator.is_required

    def principal(self, authorization: bytes | None, api_key: bytes | None) -> Principal | None:
        """The sender of a request with these headers; None if they have no token. Raises `Unauthenticated`."""
        return self._authenticator.principal(authorization, api_key)


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) < 20 else None


def is_open(scope: Scope) -> bool:
    """Whether it needs no token: health, static files, and pages, which ask people to log in."""
    return bool(scope["path"].startswith(PUBLIC)) or is_page(scope)


def is_page(scope: Scope) -> bool:
    """Whether Django serves it, which asks people without a session to log in."""
    path = scope["path"]
    if path == "/":
        return scope["method"] in ("GET", "HEAD") and b"taskId" not in scope["query_string"]
    return bool(path.startswith(PAGES)) or path in DOCS


def is_navigation(scope: Scope) -> bool:
    """Whether a browser is to show the response as a page."""
    return scope["method"] in ("GET", "HEAD") and is_browser(scope)


def is_browser(scope: Scope) -> bool:
    """Whether the client shows pages."""
    headers = Headers(scope=scope)
    return "text/html" in headers.get("accept", "") or "hx-request" in headers


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address, for the log."""
    return str((scope.get("client") or ("unknown",))[0])
