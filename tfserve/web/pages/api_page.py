"""The interactive reference of the API: Swagger UI with the OpenAPI document of this server."""

from __future__ import annotations

import asyncio

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe


@csrf_exempt
@require_safe
async def reference(request: ASGIRequest) -> HttpResponse:
    """The page without the document, which its script reads."""
    html = await asyncio.to_thread(render_to_string, "pages/api.html", {"section": "api"}, request)
    return HttpResponse(html, headers={"Cache-Control": "no-store"})
