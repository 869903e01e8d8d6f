"""Pages for expected errors, such as a database that is unavailable, with the HTTP status of the error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from tfserve.errors import TFserveError
from tfserve.web.http.responses import error_headers, status_of


class Outages:
    """Django middleware."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return await self._get_response(request)

    async def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, TFserveError):
            return None
        html = await asyncio.to_thread(render_to_string, "pages/outage.html", {"reason": error.message})
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        response = HttpResponse(html, status=status_of(error), headers=headers)
        vars(response)["_has_been_logged"] = True  # the outage has already been logged
        return response
