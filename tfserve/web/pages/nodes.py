"""The page of the machines that run workers."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.ipc.messages import GetNodes
from tfserve.web.pages import node_rows
from tfserve.web.pages.rendering import PageRequest, live_page, supervisor_of

PARTS = ("pages/nodes/table.html", "pages/nodes/former.html")


@csrf_exempt
@require_safe
async def nodes(request: PageRequest) -> HttpResponse:
    """Every machine; without a cluster, this one."""
    found = await supervisor_of(request).ask(GetNodes())
    context = {"present": node_rows.present(request.GET, found), "gone": node_rows.gone(request.GET, found)}
    return await live_page(
        request,
        section="nodes",
        name="Nodes",
        parts=["pages/nodes/table.html", "pages/nodes/former.html"],
        context=context,
    )
