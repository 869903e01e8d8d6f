"""What a browser may do on our pages: run our own scripts, use our own styles, talk to this server; nothing else.

So even if somebody's output got into a page as HTML, it could neither run nor call home.
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
