"""Django middleware: security headers, and pages for expected errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import markcoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.decorators import async_only_middleware

from tfserve.errors import TFserveError, Unavailable
from tfserve.web.http.responses import PAGE_ERROR, MethodNotAllowed, error_headers, status_of

Respond = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Pages may only use scripts, styles and connections of this server.

Even if a job's output got into a page as HTML, it could neither run nor send data to another server.
"""


UNUSED = ("accelerometer", "camera", "display-capture", "fullscreen", "geolocation", "gyroscope", "magnetometer",
          "microphone", "midi", "payment", "usb")  # fmt: skip


def permissions(*allowed: str) -> str:
    """The header Permissions-Policy: pages may use these features of the browser, and none of the others."""
    return ", ".join(f"{each}=({'self' if each in allowed else ''})" for each in UNUSED)


HEADERS = {"Content-Security-Policy": POLICY, "Permissions-Policy": permissions()}


@async_only_middleware
def security_headers(get_response: Respond) -> Respond:
    async def respond(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return respond


class ErrorPages:
    """Pages for expected errors, such as a database that is unavailable, with the HTTP status of the error."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Respond) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = await self._get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            return await error_page(_not_allowed(request, response))
        return response

    async def process_exception(self, request: ASGIRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, TFserveError):
            return None
        keep_error(request, error)
        return await error_page(error)


def keep_error(request: ASGIRequest, error: TFserveError) -> None:
    """For clients that get it as JSON instead of the page that shows it."""
    cast(dict[str, Any], request.scope)[PAGE_ERROR] = error


def refused(reason: str, *, is_temporary: bool = False, request: HttpRequest | None = None) -> str:
    """The content of a page that shows why there is nothing else to be seen."""
    heading = "This page is temporarily unavailable" if is_temporary else "This page can't be shown"
    return render_to_string("pages/refused.html", {"heading": heading, "reason": reason}, request)


def _not_allowed(request: HttpRequest, response: HttpResponseNotAllowed) -> MethodNotAllowed:
    allowed = response.headers["Allow"].split(", ")
    advice = "This address takes a form. Open the page that has it." if "GET" not in allowed else ""
    problem = f"{request.path!r} can't be requested with {request.method}, only with {' or '.join(allowed)}."
    return MethodNotAllowed(f"{problem} {advice}".strip(), *allowed)


async def error_page(error: TFserveError) -> HttpResponse:
    """A page that shows an expected error, with its HTTP status."""
    html = await asyncio.to_thread(refused, error.message, is_temporary=isinstance(error, Unavailable))
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    response = HttpResponse(html, status=status_of(error), headers=headers)
    vars(response)["_has_been_logged"] = True  # the outage has already been logged
    return response
