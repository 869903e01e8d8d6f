"""The content security policy: pages may only use scripts, styles and connections of this server.

Even if a job's output got into a page as HTML, it could neither run nor send data to another server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

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

Answer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def content_security_policy(get_response: Answer) -> Answer:
    async def respond(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return respond
