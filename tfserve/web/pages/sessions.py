"""Sessions of people who have logged in. Their pages call the API, where a session counts like a token.

A session is a signed cookie, so that a log-in writes nothing. A log-out does, because copies of the cookie may exist.
"""

from __future__ import annotations

from importlib import import_module
from io import BytesIO
from secrets import token_urlsafe
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, login
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, parse_cookie
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.crypto import constant_time_compare
from starlette.types import Scope

from tfserve.access.principals import Principal, expanded
from tfserve.access.principals import Scope as AccessScope
from tfserve.db.models import EndedSession, User
from tfserve.errors import Forbidden
from tfserve.web.database_reads import read

LOG_IN_ID = "log_in_id"


class CsrfTokenMissing(Forbidden):
    """This request has the session of a person, but not the page's CSRF token: {reason} Load the page again. Programs \
send a token instead: Authorization: Bearer <token>."""


def begin_session(request: HttpRequest, user: AbstractBaseUser, backend: str) -> None:
    login(request, user, backend)
    request.session[LOG_IN_ID] = token_urlsafe(16)


async def session_principal(scope: Scope) -> Principal | None:
    """The person whose session sent a request to the API; None without a session. Raises `CsrfTokenMissing`."""
    key = _session_key(scope)
    if key is None:
        return None
    request: Any = ASGIRequest(dict(scope), BytesIO())
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    principal = await read(principal_of, request)
    if principal is not None:
        _CsrfCheck.require(request)
    return principal


def principal_of(request: HttpRequest) -> Principal | None:
    """Django's own `get_user` needs the tables of `django.contrib.auth`, which this server does not have."""
    user = User.objects.filter(pk=request.session.get(SESSION_KEY, 0)).first()
    given = request.session.get(HASH_SESSION_KEY, "")
    if user is None or not constant_time_compare(given, user.get_session_auth_hash()):
        return None
    log_in_id = request.session.get(LOG_IN_ID)
    if log_in_id is None or EndedSession.objects.filter(pk=log_in_id).exists():
        return None
    return Principal(user.username, f"user:{user.username}", expanded([AccessScope.ADMIN]))


class _CsrfCheck(CsrfViewMiddleware):
    """Django's check of forms, for a request that no view of Django handles. Reads are not checked."""

    @classmethod
    def require(cls, request: HttpRequest) -> None:
        """Raises `CsrfTokenMissing`."""
        check = cls(lambda _: HttpResponse())
        check.process_request(request)
        check.process_view(request, _no_view, (), {})

    def _reject(self, _: HttpRequest, reason: str) -> HttpResponse:
        raise CsrfTokenMissing(reason=reason)


def _no_view(*_: object) -> HttpResponse:
    return HttpResponse()


def _session_key(scope: Scope) -> str | None:
    """Read as Django reads it for pages: cookies of other programs on this host may have any form."""
    cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    return parse_cookie(cookies.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
