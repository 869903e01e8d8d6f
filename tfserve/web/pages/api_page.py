"""The interactive reference of the API: Swagger UI with the OpenAPI document of this server."""

from __future__ import annotations

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.web.pages.rendering import page


@csrf_exempt
@require_safe
async def reference(request: ASGIRequest) -> HttpResponse:
    """The page without the document, which its script reads. Swagger UI brings the element `main`."""
    return await page(request, "pages/api.html", {"section": "api", "main_element": "div"})
