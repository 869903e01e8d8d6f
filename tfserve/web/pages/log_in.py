"""Log-in: one administrator, whose password is set with a link that works once. Sessions are signed cookies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.contrib.auth import authenticate, logout
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from tfserve.access.principals import ANONYMOUS, PRINCIPAL, Scope
from tfserve.db.models import User
from tfserve.errors import Forbidden, Overloaded, TFserveError, Unavailable
from tfserve.ipc.messages import CheckPasswordLink, EndSession, SetPassword
from tfserve.web.access.audit_log import OK
from tfserve.web.access.authentication import DOCS
from tfserve.web.access.lasting_requests import LASTING
from tfserve.web.access.password_checks import PasswordChecks
from tfserve.web.database_reads import read, read_here
from tfserve.web.http.responses import error_headers, status_of
from tfserve.web.pages.middleware import error_page, keep_error, refused
from tfserve.web.pages.sessions import LOG_IN_ID, begin_session, principal_of

Respond = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

OPEN = ("/pages/login/", "/pages/logout/", "/pages/password/", *DOCS)
"""Pages for people who are not logged in, or whose session can't be read now."""
BACKEND = f"{__name__}.PasswordBackend"


class LogOutNotRecorded(Unavailable):
    """You are logged out in this browser, but the server could not record it: {reason} Copies of the cookie are \
valid for up to 12 hours, or until a new password is set."""


class PasswordBackend:
    """Django's authentication backend for `db.models.User`."""

    def authenticate(self, _: HttpRequest | None, username: str = "", password: str = "") -> User | None:
        """As slow for an unknown name as for a wrong password, so that the time does not reveal which names exist."""
        user = User.objects.filter(username=username).first()
        if user is None:
            make_password(password)
            return None
        return user if user.check_password(password) else None

    def get_user(self, user_id: int) -> User | None:
        return User.objects.filter(pk=user_id).first()


class LogInRequired:
    """Django middleware: shows the log-in form, with status 401, without a session or a token."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Respond) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: ASGIRequest) -> HttpResponseBase:
        if request.path in OPEN:
            return await self._get_response(request)
        principal = PRINCIPAL.get()
        if principal is ANONYMOUS:
            try:
                found = await read(principal_of, request)
            except TFserveError as error:  # this middleware is outside of the one that shows errors
                return await error_page(error)
            if found is None:
                return await _form(request, next_path=request.get_full_path(), status=401)
            principal = found
            PRINCIPAL.set(found)
            if LASTING in request.scope:
                request.scope[LASTING].require_sender()
        try:
            principal.require(Scope.ADMIN)  # pages show everything of all workspaces
        except Forbidden as error:
            return await error_page(error)
        return await self._get_response(request)


@require_http_methods(["GET", "HEAD", "POST"])
async def log_in(request: ASGIRequest) -> HttpResponseBase:
    """Checks name and password. A failure is logged, and after some of them the next log-in has to wait."""
    next_path = _safe(request, request.POST.get("next") or request.GET.get("next") or "/")
    if request.method != "POST":
        return await _form(request, next_path=next_path)
    name, password = request.POST.get("username", ""), request.POST.get("password", "")
    checks: PasswordChecks = request.scope["password_checks"]
    try:
        user = await checks.run(lambda: read_here(lambda: authenticate(request, username=name, password=password)))
    except Overloaded as error:
        keep_error(request, error)
        response = await _form(request, next_path=next_path, problem=error.message, status=status_of(error))
        for header, value in error_headers(error):
            response.headers[header.decode()] = value.decode()
        return response
    if user is None:
        return await _form(request, next_path=next_path, problem="Wrong user name or password.", status=401)
    former = request.session.get(LOG_IN_ID)
    await read(begin_session, request, user, BACKEND)
    if former is not None:  # the new cookie takes its place in this browser, so nothing else could end it
        await request.scope["line"].ask(EndSession(log_in_id=former))
    request.scope["audit"].write("log_in", OK, who=name)
    return HttpResponseRedirect(next_path)


@require_POST
async def log_out(request: ASGIRequest) -> HttpResponseBase:
    """First everywhere, then in this browser: a copy of the cookie must not be valid once the page says so."""
    log_in_id = request.session.get(LOG_IN_ID)
    try:
        if log_in_id is not None:
            await request.scope["line"].ask(EndSession(log_in_id=log_in_id))
    except TFserveError as error:
        await read(logout, request)
        return await error_page(LogOutNotRecorded(reason=error.message))
    await read(logout, request)
    return HttpResponseRedirect("/pages/login/")


@require_http_methods(["GET", "HEAD", "POST"])
async def set_password(request: ASGIRequest) -> HttpResponseBase:
    """The page of the one-time link."""
    code = request.POST.get("code") or request.GET.get("code", "")
    if request.method != "POST":
        try:
            await request.scope["line"].ask(CheckPasswordLink(code=code))
        except Forbidden as error:
            return await _refused_link(request, error.message)
        return await _password_form(request, code)
    password = request.POST.get("password", "")
    if password != request.POST.get("again", ""):
        return await _password_form(request, code, ["The two passwords differ."])
    try:
        validate_password(password)
    except ValidationError as error:
        return await _password_form(request, code, error.messages)
    try:
        await request.scope["line"].ask(CheckPasswordLink(code=code))  # first, because a hash takes long
        hashed = await asyncio.to_thread(make_password, password)
        await request.scope["line"].ask(SetPassword(code=code, password_hash=hashed))
    except Forbidden as error:
        return await _refused_link(request, error.message)
    request.scope["audit"].write("set_password", OK, who="admin")
    return HttpResponseRedirect("/pages/login/")


def csrf_failure(request: HttpRequest, **_: Any) -> HttpResponseBase:
    """The form was sent by another site, or the page is older than the cookie. Django calls this outside a view."""
    reason = "The form came from another site or is too old. Load the page again."
    return HttpResponse(refused(reason, request=request), status=403)


# --- parts


def _safe(request: HttpRequest, path: str) -> str:
    """The path, or `/` for an address of another server."""
    return path if url_has_allowed_host_and_scheme(path, {request.get_host()}) else "/"


async def _form(request: HttpRequest, *, next_path: str, problem: str = "", status: int = 200) -> HttpResponse:
    return await _render(request, "pages/login.html", {"next": next_path, "problem": problem}, status)


async def _refused_link(request: ASGIRequest, reason: str) -> HttpResponse:
    """The page of a link that can't set a password: without the form, since no password would be accepted."""
    await request.scope["failed_attempts"].note("wrong password link")
    return await _password_form(request, "", [reason], status=403)


async def _password_form(
    request: HttpRequest, code: str, problems: list[str] | None = None, status: int | None = None
) -> HttpResponse:
    context = {"code": code, "problems": problems or []}
    return await _render(request, "pages/password.html", context, status or (400 if problems else 200))


async def _render(request: HttpRequest, template: str, context: dict[str, Any], status: int) -> HttpResponse:
    html = await asyncio.to_thread(render_to_string, template, context, request)
    return HttpResponse(html, status=status, headers={"Cache-Control": "no-store"})
